/** What the arguments of commands are, read from how their usage is written. */
import type { PodState } from '../../pod/index.ts';
import type { CommandSpec } from '../command.ts';

export type ArgumentKind = 'pods' | 'images' | 'networks' | 'files';

const KINDS: Readonly<Record<string, ArgumentKind>> = {
  UUID: 'pods',
  POD: 'pods',
  IMAGE: 'images',
  NAME: 'networks',
  FILE: 'files',
  PATH: 'files',
  PUBKEY: 'files',
  EVIDENCE: 'files',
  OUTPUT: 'files',
  OUTPUT_DIR: 'files',
};

/** What can stand at this position; the last one may be repeated where the usage says so. */
export function argumentsOf({ usage }: CommandSpec, position: number): ArgumentKind[] {
  const positions: string[][] = [];
  let isAlternative = false;
  // Without flags and their values, and what belongs to an app.
  for (const token of usage.replace(/\[-- .*$/, '').replace(/\[?--\S+/g, '').split(/[\s[\]()]+/)) {
    if (token === '|') isAlternative = true;
    else if (/^[A-Z]/.test(token)) {
      const name = token.replace(/\.\.\.$/, '');
      if (isAlternative && positions.length > 0) positions.at(-1)?.push(name);
      else positions.push([name]);
      isAlternative = false;
    }
  }
  const isRepeated = usage.includes('...');
  const names = positions[position] ?? (isRepeated ? positions.at(-1) : undefined) ?? [];
  return names.flatMap((name) => KINDS[name] ?? []);
}

const STATES: Readonly<Record<string, readonly PodState[]>> = {
  rm: ['prepared', 'aborted prepare', 'exited', 'exited garbage', 'garbage'],
  export: ['exited', 'exited garbage'],
  'run-prepared': ['prepared'],
};
const OF_RUNNING_PODS: readonly string[] = ['attach', 'attest quote', 'cp', 'enter', 'network check', 'port-forward', 'stats', 'stop', 'top'];

/** Pods that the command works on; undefined: all. */
export function statesOf({ name }: CommandSpec): readonly PodState[] | undefined {
  return OF_RUNNING_PODS.includes(name) || name.startsWith('app ') ? ['running'] : STATES[name];
}
