/** What fetching over a network is told by command line, configuration and environment. */
import type { NetworkSettings } from '../image/index.ts';
import type { CommandContext } from './context.ts';
import { RKT_VERSION } from './version.ts';

export function networkSettings(context: CommandContext): NetworkSettings {
  const { image, tls, http, pubkey } = context.insecure;
  return {
    insecure: { image, tls, http, pubkey },
    configDirs: context.configDirs,
    localConfigDir: context.localConfigDir,
    dataDir: context.dataDir(),
    authConfigs: context.config().credentials,
    trustKeysFromHttps: context.trustKeysFromHttps,
    userAgent: `rkt/${RKT_VERSION}`,
    env: process.env,
    onMessage: (message) => context.reporter.note(message),
  };
}
