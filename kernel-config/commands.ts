import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { RktError } from '../src/error.ts';

export interface CommandOptions {
  cwd?: string;
  env?: Record<string, string>;
  /** Called with each line of stdout. */
  onLine?: (line: string) => void;
  /** The Debian package the program comes from, for the hint when it is missing. */
  package?: string;
}

/** How much of what a failed program wrote its error message shows. */
const SHOWN_LINES = 15;

/**
 * Runs a program to its end and returns its stdout.
 * Throws RktError MISSING_DEPENDENCY if it is not installed, IO with the end of its output if it fails.
 */
export async function run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output: string[] = [];
  const recent: Record<'stdout' | 'stderr', string[]> = { stdout: [], stderr: [] };
  const keepRecent = (stream: keyof typeof recent, line: string): void => {
    recent[stream].push(line);
    if (recent[stream].length > SHOWN_LINES) recent[stream].shift();
  };
  createInterface({ input: child.stdout }).on('line', (line) => {
    // A long build's output would only fill memory: who watches its lines does not want it back.
    if (options.onLine === undefined) output.push(line);
    else options.onLine(line);
    keepRecent('stdout', line);
  });
  createInterface({ input: child.stderr }).on('line', (line) => keepRecent('stderr', line));
  const exit = await new Promise<string>((resolve, reject) => {
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') return reject(error);
      const hint = `apt-get install ${options.package ?? program}`;
      reject(new RktError('MISSING_DEPENDENCY', `${program} is not installed`, { hint, cause: error }));
    });
    child.on('close', (code, signal) => resolve(code === null ? `ended by ${signal}` : code === 0 ? '' : `exit status ${code}`));
  });
  if (exit !== '') {
    // A compiler's complaint is long out of stdout's last lines when the other compilers are done.
    const words = recent.stderr.length > 0 ? recent.stderr : recent.stdout;
    throw new RktError('IO', `${program} ${args.slice(0, 3).join(' ')}: ${exit}\n${words.join('\n')}`);
  }
  return output.join('\n');
}
