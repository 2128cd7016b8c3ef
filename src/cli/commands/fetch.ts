import { openStore } from '../../store/index.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import type { ImageCommandLine } from '../flags/image-arguments.ts';
import * as flags from '../flags/table.ts';
import { fetchImages, pullPolicyOf } from '../images.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** `sha512-` and 32 digits. */
const SHORT_ID_LENGTH = 39;

export async function run({ pod, images }: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  if (images.length === 0) throw usage('must provide at least one image');
  pullPolicyOf(pod, 'update');
  const fetched = await fetchImages(images.map(({ image }) => ({ text: image })), { store: openStore(context.dataDir()), context });
  const full = pod.last(flags.full) ?? false;
  return success({ kind: 'lines', lines: fetched.map(({ id }) => (full ? id : id.slice(0, SHORT_ID_LENGTH))) });
}
