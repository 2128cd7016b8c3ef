import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { aciOf, openImage } from '../../image/image-archive.ts';
import type { OpenedImage } from '../../image/image-archive.ts';
import { exportOci } from '../../image/export-oci.ts';
import { saveStream } from '../../image/save-stream.ts';
import { RktError } from '../../error.ts';
import { openStore } from '../../store/index.ts';
import type { Store } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { findStoredImage } from '../find-image.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { interruptible } from '../interruptible.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';
import { saveDirectory } from '../save-directory.ts';

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const [text, output] = positional;
  if (text === undefined || output === undefined || positional.length > 2) throw usage('expected an image and an output file');
  const store = openStore(context.dataDir());
  const opened = openImage(store, findStoredImage(store, text));
  const { signal, done } = interruptible();
  const target = { path: resolve(context.cwd, output), overwrite: values.last(flags.overwrite) ?? false, signal };
  try {
    const isSame = values.last(flags.oci) === true ? await writeLayout(opened, target, store) : await writeAci(opened, target);
    if (!isSame) context.reporter.note(`the files are those of ${opened.image.id}, but imported again it will have another ID`);
  } finally {
    done();
    opened.close();
  }
  return success(NOTHING);
}

interface Target {
  path: string;
  overwrite: boolean;
  signal: AbortSignal;
}

async function writeAci(opened: OpenedImage, { path, overwrite, signal }: Target): Promise<boolean> {
  if (!overwrite && existsSync(path)) throw new RktError('BAD_INPUT', 'output ACI file exists (try --overwrite)');
  const { tar, isExact } = aciOf(opened);
  await saveStream(tar, path, signal);
  return isExact;
}

async function writeLayout(opened: OpenedImage, { path, overwrite, signal }: Target, store: Store): Promise<boolean> {
  const exactness = await saveDirectory(path, { overwrite, fill: (directory) => exportOci(opened, directory, { store, signal }) });
  return exactness !== 'content';
}
