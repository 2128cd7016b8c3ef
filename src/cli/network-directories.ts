/** Where this command looks for networks and their plugins. */
import type { NetworkDirectories } from '../network/index.ts';
import type { CommandContext } from './context.ts';

export async function networkDirectories(context: CommandContext): Promise<NetworkDirectories> {
  const { networkDirectories: directories } = await import('../network/index.ts');
  return directories({ localConfigDir: context.localConfigDir, pluginsDir: context.config().paths.cniPlugins });
}
