import type { KnownNetwork } from '../../network/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { networkDirectories } from '../network-directories.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

const LEGEND = ['NAME', 'PLUGINS', 'CNI VERSION', 'CONFIGURATION'];
const BUILT_IN = '(built in)';

export async function run({ values }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const { readNetworks } = await import('../../network/index.ts');
  const { networks, problems } = readNetworks((await networkDirectories(context)).configurations);
  for (const problem of problems) context.reporter.error(problem);
  const format = values.last(flags.format) ?? '';
  if (format !== '') return success({ kind: 'json', value: networks.map(networkJson), pretty: format === 'json-pretty' });
  const rows = networks.map(({ configuration, path }) => [configuration.name, pluginTypes(configuration).join(','), configuration.versions.join(','), path ?? BUILT_IN]);
  return success({ kind: 'table', rows, ...(values.last(flags.noLegend) === true ? {} : { legend: LEGEND }) });
}

function networkJson({ configuration, path }: KnownNetwork): Record<string, unknown> {
  return { name: configuration.name, plugins: pluginTypes(configuration), cni_versions: configuration.versions, ...(path === null ? {} : { path }) };
}

function pluginTypes({ plugins }: KnownNetwork['configuration']): string[] {
  return plugins.map(({ type }) => type);
}
