/** `image extract` and `image render`: what an image holds, as files. */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { RktError } from '../error.ts';
import { openImage } from '../image/image-archive.ts';
import { unpackImage } from '../image/unpack-image.ts';
import { openStore } from '../store/index.ts';
import type { ArgumentInput } from './command.ts';
import type { CommandContext } from './context.ts';
import { findStoredImage } from './find-image.ts';
import { usage } from './flags/flag.ts';
import * as flags from './flags/table.ts';
import { interruptible } from './interruptible.ts';
import { NOTHING, success } from './reporter.ts';
import type { Outcome } from './reporter.ts';

/** What nobody means to have replaced. */
const PRECIOUS = ['/', '/bin', '/boot', '/dev', '/etc', '/home', '/lib', '/lib64', '/proc', '/root', '/run', '/sbin', '/sys', '/tmp', '/usr', '/var'];

export async function unpackCommand({ values, positional }: ArgumentInput, context: CommandContext, { withDependencies }: { withDependencies: boolean }): Promise<Outcome> {
  const [text, output] = positional;
  if (text === undefined || output === undefined || positional.length > 2) throw usage('expected an image and an output directory');
  const target = resolve(context.cwd, output);
  if (existsSync(target)) {
    if (values.last(flags.overwrite) !== true) throw new RktError('BAD_INPUT', 'output directory exists (try --overwrite)');
    if (PRECIOUS.includes(target)) throw new RktError('BAD_INPUT', `${target}: this would delete a directory of this machine. Refusing.`);
  }
  const store = openStore(context.dataDir());
  const opened = openImage(store, findStoredImage(store, text));
  const { signal, done } = interruptible();
  const unfinished = join(dirname(target), `.${basename(target)}.unfinished`);
  rmSync(unfinished, { recursive: true, force: true });
  try {
    mkdirSync(unfinished, { mode: 0o755 });
    const rootfs = join(unfinished, 'rootfs');
    await unpackImage(opened, rootfs, { withDependencies, store, asRoot: process.geteuid?.() === 0, onWarning: (message) => context.reporter.note(message), signal });
    const isRootfsOnly = values.last(flags.rootfsOnly) ?? false;
    if (!isRootfsOnly) writeFileSync(join(unfinished, 'manifest'), JSON.stringify(opened.manifest));
    rmSync(target, { recursive: true, force: true });
    renameSync(isRootfsOnly ? rootfs : unfinished, target);
  } finally {
    done();
    opened.close();
    rmSync(unfinished, { recursive: true, force: true });
  }
  return success(NOTHING);
}
