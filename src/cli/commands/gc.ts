import { collectGarbage } from '../../pod/index.ts';
import { removeUnusedTrees } from '../../stage0/trees.ts';
import { openStore } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { gcHost } from '../gc-host.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

const MINUTE_MS = 60_000;
const DEFAULT_GRACE_PERIOD_MS = 30 * MINUTE_MS;
const DEFAULT_PREPARED_EXPIRY_MS = 24 * 60 * MINUTE_MS;

export async function run({ values }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const options = {
    gracePeriodMs: values.last(flags.gracePeriod) ?? DEFAULT_GRACE_PERIOD_MS,
    expirePreparedMs: values.last(flags.expirePrepared) ?? DEFAULT_PREPARED_EXPIRY_MS,
    markOnly: values.last(flags.markOnly) ?? false,
  };
  await collectGarbage(context.dataDir(), options, gcHost(context));
  if (options.markOnly) return success(NOTHING);
  removeUnusedTrees(openStore(context.dataDir()));
  return success(NOTHING);
}
