/** Completion of command lines, by the shells themselves. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { eventually, makeHost, PROGRAM } from './helpers/rkt.ts';
import { makeHelloImage, makeStubStage1 } from './helpers/stub-stage1.ts';

const host = makeHost('words');
t.teardown(host.close);
const scripts = join(import.meta.dirname, '../shell-completion');
const PATH = `${dirname(PROGRAM)}:${process.env['PATH'] ?? ''}`;
mkdirSync(join(host.workDir, 'some-directory'));
writeFileSync(join(host.workDir, 'some-file'), '');
const hello = makeHelloImage(join(host.workDir, 'hello.aci'));

async function succeed(args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await host.rkt(args);
  if (status !== 0) throw new Error(`rkt ${args.join(' ')}: ${stderr}`);
  return stdout.toString();
}

const stub = `--stage1-path=${makeStubStage1(join(host.workDir, 'stub.aci'))}`;
const prepared = (await succeed(['prepare', stub, hello])).trim();
const dir = `--dir=${host.dataDir}`;

interface Shell {
  name: string;
  argv: readonly string[];
  setUp: string;
}

/** Control-X writes the line as it is then to a file. */
const INTERACTIVE: readonly Shell[] = [
  { name: 'bash', argv: ['bash', '--norc', '--noprofile', '-i'], setUp: `source <(rkt completion bash); bind 'set bell-style none'; bind -x '"\\C-x": printf %s "$READLINE_LINE" > line'` },
  { name: 'zsh', argv: ['zsh', '-f', '-i'], setUp: 'autoload -Uz compinit; compinit -u -D; source <(rkt completion zsh); unsetopt beep; show() { print -rn -- "$BUFFER" > line }; zle -N show; bindkey "^X" show' },
];

const LINES: readonly (readonly [typed: string, completed: string])[] = [
  ['rkt image cat', 'rkt image cat-manifest '],
  ['rkt prepare --qui', 'rkt prepare --quiet '],
  ['rkt prepare --stage1-p', 'rkt prepare --stage1-path='],
  ['rkt run --accel=t', 'rkt run --accel=tcg '],
  ['rkt run --net=default-', 'rkt run --net=default-restricted '],
  [`rkt ${dir} run-prepared `, `rkt ${dir} run-prepared ${prepared} `],
  [`rkt ${dir} image rm example.com/hello:1`, `rkt ${dir} image rm example.com/hello:1.0.0 `],
  ['rkt run --set-env-file=some-f', 'rkt run --set-env-file=some-file '],
  ['rkt --dir=some-', 'rkt --dir=some-directory/'],
];

for (const { name, argv, setUp } of INTERACTIVE) {
  const isMissing = spawnSync(argv[0] ?? '', ['-c', 'true']).error !== undefined;
  t.test(`${name}, by its TAB key`, { skip: isMissing ? `${name} is not installed` : false }, async (t) => {
    const file = join(host.workDir, 'line');
    const child = spawn('script', ['--quiet', '--return', '--command', argv.join(' '), '/dev/null'], { cwd: host.workDir, env: { ...process.env, PATH, TERM: 'xterm', PS1: '> ' }, stdio: ['pipe', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    let shown = '';
    child.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
    child.stdin.write(`stty cols 500; ${setUp}; echo rea''dy\n`);
    await eventually(`${name} is ready: ${shown}`, () => shown.includes('ready'));
    for (const [typed, completed] of LINES) {
      rmSync(file, { force: true });
      // Control-U takes back what is there.
      child.stdin.write(`\x15${typed}\t`);
      // It completes before it reads on.
      child.stdin.write('\x18');
      const line = await eventually(`the line is shown: ${shown.slice(-500)}`, () => existsSync(file) && readFileSync(file, 'utf8'));
      t.equal(line.trimEnd(), completed.trimEnd(), typed);
    }
    const ended = new Promise((resolve) => child.on('close', resolve));
    child.stdin.write('\x15exit\n');
    await ended;
  });
}

t.test('fish', { skip: spawnSync('fish', ['--version']).error === undefined ? false : 'fish is not installed' }, async (t) => {
  for (const [typed, completed] of LINES) {
    const command = `source ${scripts}/rkt.fish; complete -C ${JSON.stringify(typed)}`;
    const { stdout, stderr } = spawnSync('fish', ['--no-config', '-c', command], { cwd: host.workDir, env: { ...process.env, PATH, HOME: host.workDir }, encoding: 'utf8' });
    t.equal(stderr, '');
    t.strictSame(stdout.trim().split('\n').map((line) => line.split('\t')[0]), [completed.trim().split(' ').at(-1)], typed);
  }
});
