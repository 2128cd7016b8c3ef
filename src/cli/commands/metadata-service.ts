import { registrationSocket } from '../../metadata/places.ts';
import { startMetadataService } from '../../metadata/service.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** SD_LISTEN_FDS_START */
const FIRST_INHERITED_FD = 3;

/** Serves until it is told to end. */
export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  if (positional.length > 0) throw usage('expected no arguments');
  const { reporter } = context;
  const tcpPort = values.last(flags.listenPort);
  reporter.note('Metadata service starting...');
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  const service = await startMetadataService({
    socket: registrationSocket(process.env),
    inheritedFds: inheritedFds(process.env),
    ...(tcpPort === undefined ? {} : { tcpPort }),
    dataDir: context.dataDir(),
    log: (message) => reporter.debug('metadata-service', message),
    problem: (message, cause) => reporter.error(cause, message),
  });
  reporter.note('Metadata service running...');
  await ended;
  reporter.note('Metadata service exiting...');
  service.close();
  return success(NOTHING);
}

/** sd_listen_fds(3) */
function inheritedFds(env: Readonly<Record<string, string | undefined>>): number[] {
  if (env['LISTEN_PID'] !== String(process.pid)) return [];
  const count = Number(env['LISTEN_FDS'] ?? 0);
  if (!Number.isInteger(count) || count < 0) throw usage(`LISTEN_FDS: expected a number, found ${JSON.stringify(env['LISTEN_FDS'])}`);
  return Array.from({ length: count }, (_, index) => FIRST_INHERITED_FD + index);
}
