import { collectGarbage } from '../../pod/index.ts';
import { collectNetworkGarbage, releaseNetworks } from '../../stage0/network-release.ts';
import { removeUnusedTrees } from '../../stage0/trees.ts';
import { openStore } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { gcHost } from '../gc-host.ts';
import { networkDirectories } from '../network-directories.ts';
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
  await releaseEnded(context);
  await collectGarbage(context.dataDir(), options, gcHost(context));
  if (options.markOnly) return success(NOTHING);
  // Others than root have no networks that could hold anything.
  const problems = context.uid === 0 ? await collectNetworkGarbage(context.dataDir(), await networkDirectories(context)) : [];
  for (const problem of problems) context.reporter.error(problem);
  removeUnusedTrees(openStore(context.dataDir()));
  return success(NOTHING);
}

/** The grace period is for looking at what a pod has left; its addresses and ports are of no use to anybody. */
async function releaseEnded(context: CommandContext): Promise<void> {
  const { plugins: pluginDirs } = await networkDirectories(context);
  const { problems } = await releaseNetworks(context.dataDir(), { pluginDirs });
  for (const problem of problems) context.reporter.error(problem);
}
