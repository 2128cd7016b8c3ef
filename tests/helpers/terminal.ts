/** Runs a program on a terminal of its own, with somebody who types. */
import { spawn } from 'node:child_process';

/** `answers`: for each text that is waited for, in order, what is typed then. Gives everything that was on the screen. */
export async function onTerminal(command: readonly string[], answers: readonly (readonly [awaited: string, typed: string])[], env: Record<string, string> = {}): Promise<{ status: number | null; screen: string }> {
  const line = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const child = spawn('script', ['--quiet', '--return', '--echo', 'never', '--command', line, '/dev/null'], { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'inherit'] });
  let screen = '';
  let seen = 0;
  const left = [...answers];
  child.stdout.on('data', (chunk: Buffer) => {
    screen += chunk.toString();
    for (let next = left[0]; next !== undefined; next = left[0]) {
      const at = screen.indexOf(next[0], seen);
      if (at === -1) return;
      seen = at + next[0].length;
      child.stdin.write(next[1]);
      left.shift();
    }
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { status, screen: screen.replaceAll('\r\n', '\n') };
}
