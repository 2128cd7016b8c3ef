/** CNI plugins that only tell: for each call a file with command, environment and input; what they answer is up to the test. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface PluginCallSeen {
  type: string;
  command: string;
  env: Record<string, string>;
  input: Record<string, unknown>;
}

export interface FakePlugins {
  directory: string;
  /** A plugin that runs `body` (sh) for every command but VERSION: `$CNI_COMMAND` and the input in `$INPUT` are there. */
  plugin(type: string, body: string, versions?: readonly string[]): void;
  /** In order; forgotten once read. */
  calls(): PluginCallSeen[];
}

export function fakePlugins(directory: string): FakePlugins {
  const log = join(directory, 'calls');
  mkdirSync(log, { recursive: true });
  let read = 0;
  return {
    directory,
    plugin: (type, body, versions = ['0.4.0', '1.0.0', '1.1.0']) => {
      const path = join(directory, type);
      writeFileSync(path, `#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then echo '{"cniVersion":"1.0.0","supportedVersions":${JSON.stringify(versions)}}'; exit 0; fi
n=1; while ! mkdir "${log}/$n" 2>/dev/null; do n=$((n + 1)); done
INPUT="${log}/$n/input"; cat > "$INPUT"; env | grep ^CNI_ > "${log}/$n/env"; echo ${type} > "${log}/$n/type"
${body}
`);
      chmodSync(path, 0o755);
    },
    calls: () => {
      if (!existsSync(log)) return [];
      // The type is written last: a call without it was killed before it could tell.
      const numbers = readdirSync(log).map(Number).sort((a, b) => a - b).filter((number) => number > read && existsSync(join(log, String(number), 'type')));
      read = numbers.at(-1) ?? read;
      return numbers.map((number) => {
        const text = (name: string): string => readFileSync(join(log, String(number), name), 'utf8').trim();
        const env = Object.fromEntries(text('env').split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
        return { type: text('type'), command: env['CNI_COMMAND'] ?? '', env, input: JSON.parse(text('input')) as Record<string, unknown> };
      });
    },
  };
}

/** Body of a plugin that answers ADD with this result. */
export function answering(result: Record<string, unknown>): string {
  return `[ "$CNI_COMMAND" != ADD ] || echo '${JSON.stringify({ cniVersion: '1.0.0', ...result })}'`;
}
