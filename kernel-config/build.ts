/** `npm run build:kernel`: builds the pod kernel into the build cache and says what it cost. */
import { readFileSync, statSync } from 'node:fs';
import { RktError } from '../src/error.ts';
import { buildOwnKernel } from './own-kernel.ts';
import type { BuildProgress } from './own-kernel.ts';

const CLOCK_TICKS_PER_SECOND = 100;
const PLAIN_LINE_EVERY_STEPS = 200;

/** One line that changes on a terminal; elsewhere a line now and then. */
function progressPrinter(stream: NodeJS.WriteStream): { show: (progress: BuildProgress) => void; end: () => void } {
  const startMs = performance.now();
  let lastStep = '';
  const describe = ({ step, doneSteps, expectedSteps }: BuildProgress): string => {
    const elapsed = `${Math.round((performance.now() - startMs) / 1000)} s`;
    return doneSteps === 0 ? `kernel: ${step}` : `kernel: ${doneSteps} of about ${expectedSteps} steps, ${elapsed}`;
  };
  return {
    show(progress) {
      if (stream.isTTY) stream.write(`\r\u001b[K${describe(progress)}${progress.doneSteps > 0 ? `  ${progress.step}` : ''}`.slice(0, stream.columns));
      else if (progress.doneSteps === 0 ? progress.step !== lastStep : progress.doneSteps % PLAIN_LINE_EVERY_STEPS === 0) stream.write(`${describe(progress)}\n`);
      lastStep = progress.step;
    },
    end() {
      if (stream.isTTY) stream.write('\r\u001b[K');
    },
  };
}

/** User and system time of all programs this process has started and waited for (proc(5): cutime, cstime). */
function childrenCpuSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / CLOCK_TICKS_PER_SECOND;
}

async function main(): Promise<void> {
  const startMs = performance.now();
  const printer = progressPrinter(process.stderr);
  const kernel = await buildOwnKernel({ onProgress: printer.show }).finally(printer.end);
  const minutes = (seconds: number): string => `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  const cost = `${minutes((performance.now() - startMs) / 1000)}, processors busy for ${minutes(childrenCpuSeconds())}`;
  console.log(`kernel ${kernel.release}: ${kernel.path} (${(statSync(kernel.path).size / 1e6).toFixed(1)} MB; ${cost})`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof RktError)) throw error;
  console.error(`build:kernel: ${error.message}${error.hint === undefined ? '' : `\n  ${error.hint}`}`);
  process.exitCode = 1;
}
