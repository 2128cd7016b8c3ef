import { openStore } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { findStoredImage } from '../find-image.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export function run({ values, positional }: ArgumentInput, context: CommandContext): Outcome {
  const [image] = positional;
  if (image === undefined || positional.length > 1) throw usage('expected one image');
  const store = openStore(context.dataDir());
  const manifest = store.imageManifest(findStoredImage(store, image).id);
  return success({ kind: 'json', value: manifest, pretty: values.last(flags.prettyPrint) ?? true });
}
