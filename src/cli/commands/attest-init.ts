import { ensureHostIdentity, hostCaPath } from '../../stage0/host-identity.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export async function run({ positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  if (positional.length > 0) throw usage('expected no arguments');
  await ensureHostIdentity(context.dataDir());
  return success({ kind: 'lines', lines: [hostCaPath(context.dataDir())] });
}
