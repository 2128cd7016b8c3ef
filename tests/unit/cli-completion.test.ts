/** What a word of a command line can become. */
import t from 'tap';
import { complete } from '../../src/cli/completion/words.ts';
import type { Names } from '../../src/cli/completion/words.ts';
import type { CommandSpec } from '../../src/cli/command.ts';
import { COMMANDS, GROUPS } from '../../src/cli/command-table.ts';
import * as flags from '../../src/cli/flags/table.ts';

/** One whose flags may stand behind the pod. */
const LATE: CommandSpec = { name: 'late', usage: 'UUID', summary: '', flags: [flags.app], needsRoot: false, grammar: 'arguments', interspersed: true, load: () => Promise.reject(new Error('not called')) };

const names: Names = {
  pods: (states) => [{ word: 'aaaa', help: 'prepared' }, { word: 'bbbb', help: 'running' }, { word: 'cccc', help: 'exited' }].filter(({ help }) => states === undefined || states.some((state) => state === help)),
  images: () => [{ id: 'sha512-00', name: 'example.com/hello:1.0.0' }],
  networks: () => ['default', 'default-restricted', 'none'],
  apps: (pod) => (pod === 'bbbb' ? ['one', 'two'] : []),
};

function ask(...typed: string[]): { words: string[]; paths?: { kind: string; behind: string } } {
  const { candidates, paths } = complete(typed, { all: [...COMMANDS, LATE], groups: GROUPS }, names);
  return { words: candidates.map(({ word }) => word), ...(paths === undefined ? {} : { paths }) };
}

t.test('what fits', async (t) => {
  const fits = (expected: readonly string[], ...typed: string[]): void => void t.strictSame(ask(...typed).words, expected, typed.join(' '));
  for (const name of ['run', 'image', 'help', 'completion']) t.ok(ask('').words.includes(name), name);
  fits(['run', 'run-prepared'], 'ru');
  fits(['image'], '--debug', '--dir', 'x', 'im');
  fits(['cat-manifest'], 'image', 'c');
  fits(['cat-manifest'], 'help', 'image', 'c');
  fits(['--quiet'], 'prepare', '--qu');
  fits([], 'run', '--exe');
  fits(['--exec='], 'run', 'image', '--exe');
  fits(['--tpm=on', '--tpm=off', '--tpm=host'], 'run', '--tpm=');
  fits(['on', 'off'], 'run', '--tpm', 'o');
  fits(['--debug=true'], '--debug=t');
  fits(['--net=default', '--net=default-restricted'], 'run', '--net=de');
  fits(['--net=none,default', '--net=none,default-restricted'], 'run', '--net=none,de');
  fits(['--net=default,default-restricted'], 'run', '--net=default,de');
  fits(['--insecure-options=image,tls'], '--insecure-options=image,tl');
  fits(['--format=json', '--format=json-pretty'], 'list', '--format=j');
  fits(['aaaa'], 'run-prepared', '');
  fits(['aaaa', 'cccc'], 'rm', '');
  fits(['cccc'], 'rm', 'aaaa', '');
  fits(['bbbb'], 'enter', '');
  fits([], 'run-prepared', 'aaaa', '');
  fits(['aaaa', 'bbbb', 'cccc'], 'status', '');
  fits(['default', 'default-restricted', 'none', 'aaaa', 'bbbb', 'cccc'], 'network', 'inspect', '');
  t.strictSame(ask('generate', 'systemd', '').words, ['aaaa', 'bbbb', 'cccc', 'example.com/hello:1.0.0']);
  fits(['one', 'two'], 'late', 'bbbb', '--app', '');
  fits(['--app=two'], 'late', 'bbbb', '--app=t');
  fits([], 'late', '--app=t');
  fits(['example.com/hello:1.0.0'], 'image', 'rm', 'ex');
  fits(['sha512-00'], 'image', 'rm', 'sha512-');
  t.strictSame(ask('run', 'example'), { words: ['example.com/hello:1.0.0'], paths: { kind: 'files', behind: '' } });
  t.strictSame(ask('run', 'image', '--', 'x'), { words: [], paths: { kind: 'files', behind: '' } }, "an app's own arguments");
  fits(['example.com/hello:1.0.0'], 'run', 'image', '--', 'x', '---', '');
  t.strictSame(ask('image', 'export', 'image', ''), { words: [], paths: { kind: 'files', behind: '' } });
  t.strictSame(ask('run', '--set-env-file=so'), { words: [], paths: { kind: 'files', behind: '--set-env-file=' } });
  t.strictSame(ask('--dir', 'so'), { words: [], paths: { kind: 'directories', behind: '' } });
  for (const nonsense of [['frobnicate', ''], ['run', '--frobnicate='], ['---'], ['--', ''], ['-'], []]) t.doesNotThrow(() => ask(...nonsense), nonsense.join(' '));
});
