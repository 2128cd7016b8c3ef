/** Terminals: `run --interactive` and `enter` from one, made by script(1). */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { eventually, makeHost, PROGRAM, readyPod } from './helpers/rkt.ts';

const image = busyboxImage();

const INTERRUPT = '\x03';

/** Types each line when the prompt has come, and the interrupt character a second after the line that asks for it. Resolves with everything the terminal showed and the command's status. */
async function inTerminal(command: string, lines: readonly string[], options: { interruptAfter?: string } = {}): Promise<{ shown: string; status: number | null }> {
  const child = spawn('script', ['--quiet', '--return', '--command', `stty rows 33 cols 99; exec ${command}`, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  let shown = '';
  child.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
  for (const [index, line] of lines.entries()) {
    await eventually(`prompt ${index + 1} in: ${shown}`, () => shown.split('/ # ').length > index + 1);
    child.stdin.write(`${line}\n`);
    if (line === options.interruptAfter) setTimeout(() => child.stdin.write(INTERRUPT), 1000);
  }
  return { status: await ended, shown };
}

t.test('run --interactive from a terminal', async (t) => {
  const host = makeHost('tty');
  t.teardown(host.close);
  const { shown, status } = await inTerminal(`${PROGRAM} --dir=${host.dataDir} run --net=none --interactive ${image} --exec /bin/sh`, ['stty size; tty', 'exit 4']);
  t.match(shown, /^33 99\r$/m);
  t.match(shown, /^\/dev\/(pts\/\d+|console)\r$/m);
  t.equal(status, 4);
});

t.test('enter from a terminal, and an interrupt that ends only what it should', async (t) => {
  const host = makeHost('tty-enter');
  t.teardown(host.close);
  const uuidFile = join(host.workDir, 'uuid');
  const { ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, image, '--exec', '/bin/sleep', '--', '600']);
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  // The interrupt character reaches the foreground job of the guest's shell, and nothing else.
  const { shown, status } = await inTerminal(`${PROGRAM} --dir=${host.dataDir} enter ${uuid} /bin/sh`, ['stty size', 'sleep 500', 'exit 6'], { interruptAfter: 'sleep 500' });
  t.match(shown, /^33 99\r$/m);
  t.equal(status, 6);
  t.equal((await host.rkt(['stop', uuid])).status, 0);
  await ended;
});
