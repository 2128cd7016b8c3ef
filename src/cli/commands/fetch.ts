import { openStore } from '../../store/index.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import type { ImageCommandLine } from '../flags/image-arguments.ts';
import * as flags from '../flags/table.ts';
import { fetchImages, pullOptions, signatureOf } from '../images.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** `sha512-` and 32 digits. */
const SHORT_ID_LENGTH = 39;

export async function run({ pod, images }: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  if (images.length === 0) throw usage('must provide at least one image');
  const wanted = images.map(({ image, flags: given }) => ({ text: image, ...signatureOf(given) }));
  const asEvents = (pod.last(flags.format) ?? '') !== '';
  const fetched = await fetchImages(wanted, { store: openStore(context.dataDir()), context, ...pullOptions(pod, context, 'update'), progress: asEvents ? 'events' : 'text' });
  if (asEvents) return success(NOTHING);
  const full = pod.last(flags.full) ?? false;
  return success({ kind: 'lines', lines: fetched.map(({ id }) => (full ? id : id.slice(0, SHORT_ID_LENGTH))) });
}
