/** Messages for the user, on standard error. */
import { NR_write } from '../runtime/abi.gen.ts';
import { Stage1Error } from './error.ts';

/** `stage1: MESSAGE`, the hint and whatever helps to see the cause below it. A defect shows its stack. */
export function printError(error: unknown, options: { lines?: readonly string[] } = {}): void {
  const lines = [`stage1: ${messageOf(error)}`];
  if (error instanceof Stage1Error && error.hint !== null) lines.push(`  ${error.hint}`);
  for (const line of options.lines ?? []) lines.push(`  | ${line}`);
  print(2, `${lines.join('\n')}\n`);
}

export function print(fd: number, text: string): void {
  const bytes = sys.utf8(text).subarray(0, -1);
  // A terminal or pipe that takes only a part of a message gets no more of it.
  sys.call(NR_write, fd, bytes, bytes.length);
}

function messageOf(error: unknown): string {
  if (error instanceof Stage1Error) return error.message;
  if (error instanceof Error) return `${error.message}\n${error.stack ?? ''}`.trimEnd();
  return String(error);
}
