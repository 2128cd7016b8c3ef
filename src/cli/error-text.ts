/** How errors read: rkt's form, one line without --debug, the tree of causes with it. */
import { getSystemErrorMap } from 'node:util';

/** The error and its causes, outermost first, each in words for a person. */
export function errorChain(error: unknown): string[] {
  const chain: string[] = [];
  const seen = new Set<unknown>();
  for (let current = error; current !== undefined && current !== null && !seen.has(current); current = current instanceof Error ? current.cause : undefined) {
    seen.add(current);
    chain.push(describe(current));
  }
  return chain;
}

/** `CONTEXT: INNERMOST CAUSE`, or below the context one cause a line with --debug. Context may be empty. */
export function formatError(context: string, error: unknown, debug: boolean): string {
  const chain = errorChain(error);
  if (debug) return [...(context === '' ? [] : [context]), ...chain.map((text, depth) => `${'  '.repeat(depth + 1)}└─${text}`)].join('\n');
  const [outer = '', ...causes] = chain;
  const innermost = causes.at(-1);
  // Many of our messages end with their cause already.
  const parts = [context, outer, ...(innermost === undefined || outer.includes(innermost) ? [] : [innermost])];
  return parts.filter((part) => part !== '').join(': ');
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('syscall' in error && 'errno' in error && typeof error.errno === 'number') return describeSystemError(error as NodeJS.ErrnoException);
  return error.message === '' ? error.name : error.message;
}

/** Go's form: `open /x: no such file or directory`. */
function describeSystemError(error: NodeJS.ErrnoException): string {
  const reason = getSystemErrorMap().get(error.errno ?? 0)?.[1] ?? error.message;
  return `${[error.syscall, error.path].filter((part) => part !== undefined).join(' ')}: ${reason}`;
}
