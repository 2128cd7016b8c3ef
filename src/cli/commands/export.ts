import { existsSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { RktError } from '../../error.ts';
import { membersOf } from '../../files/archive-names.ts';
import { limitedWarnings } from '../../files/entry-stream.ts';
import { exportOciContent } from '../../image/export-oci.ts';
import { writeAci } from '../../image/image-archive.ts';
import { saveStream } from '../../image/save-stream.ts';
import type { ByteSource } from '../../rootfs/bytes.ts';
import { lockShared, openPodByName, readAppImageManifest } from '../../pod/index.ts';
import { readEndedApp } from '../../stage0/export-pod.ts';
import { chooseApp } from '../choose-app.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { interruptible } from '../interruptible.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';
import { saveDirectory } from '../save-directory.ts';

const ACI_EXTENSION = '.aci';

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const [uuid, output] = positional;
  if (uuid === undefined || output === undefined || positional.length > 2) throw usage('expected a UUID and an output file');
  const asLayout = values.last(flags.oci) ?? false;
  if (!asLayout && extname(output) !== ACI_EXTENSION) throw new RktError('USAGE', `extension must be ${ACI_EXTENSION} (given ${output})`);
  const overwrite = values.last(flags.overwrite) ?? false;
  const path = resolve(context.cwd, output);
  if (!asLayout && !overwrite && existsSync(path)) throw new RktError('BAD_INPUT', 'output ACI file exists (try --overwrite)');
  using pod = openPodByName(context.dataDir(), uuid);
  // Held until the end: gc does not remove the pod.
  if ((pod.state !== 'exited' && pod.state !== 'exited garbage') || !lockShared(pod)) throw new RktError('STATE', 'pod is not exited. Only exited pods can be exported');
  const app = chooseApp(pod, values.last(flags.app), { command: 'export', reporter: context.reporter });
  const manifest = readAppImageManifest(pod, app);
  const { signal, done } = interruptible();
  const entries = readEndedApp(pod, app, { warn: limitedWarnings((message) => context.reporter.note(`warning: ${message}`)), signal });
  if (asLayout) {
    await saveDirectory(path, { overwrite, fill: (directory) => exportOciContent({ name: `pod "${pod.uuid}"`, manifest, entries: membersOf(entries, '') }, directory, signal) });
  } else {
    await saveStream(gzipped(writeAci(manifest, membersOf(entries, 'rootfs'))), path, signal);
  }
  done();
  return success(NOTHING);
}

function gzipped(source: ByteSource): ByteSource {
  // Whoever reads the last one gets the error of the first.
  return pipeline(Readable.from(source, { objectMode: false }), createGzip(), () => undefined) as AsyncIterable<Buffer>;
}
