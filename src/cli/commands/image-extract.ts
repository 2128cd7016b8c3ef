import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import type { Outcome } from '../reporter.ts';
import { unpackCommand } from '../unpack-image.ts';

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  return await unpackCommand(input, context, { withDependencies: false });
}
