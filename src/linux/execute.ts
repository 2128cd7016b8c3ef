/**
 * Becoming another program: execve(2) with what Node leaves behind put right. Not `process.execve`, which ends the
 * process with a native stack trace when the program cannot be executed.
 */
import { RktError } from '../error.ts';
import { setCloseOnExec } from './descriptors.ts';
import { addressOf, callInt64, callInts, systemCallError } from './libc.ts';

const SIGNAL_DEFAULT = 0;
/** Node ignores these, and a program started by execve would go on ignoring them. */
const SIGPIPE = 13;
const SIGXFSZ = 25;
const STANDARD_STREAMS = [0, 1, 2];
const POINTER_BYTES = 8;

/** What only the kernel will look at is out of sight for the garbage collector, unless it is here. */
const keptAlive: Buffer[] = [];

export interface Execution {
  path: string;
  /** The whole argv, including argv[0]. */
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  /** Descriptors besides 0, 1 and 2 that the program gets. */
  inherit: readonly number[];
}

/** Does not return. Throws RktError when the program cannot be executed. */
export function replaceProcess(execution: Execution): never {
  const path = stringTable([execution.path]);
  const argv = stringTable(execution.argv);
  const env = stringTable(Object.entries(execution.env).map(([name, value]) => `${name}=${value}`));
  for (const fd of [...STANDARD_STREAMS, ...execution.inherit]) setCloseOnExec(fd, false);
  for (const signal of [SIGPIPE, SIGXFSZ]) callInts('signal', signal, SIGNAL_DEFAULT);
  const { errno } = callInt64('execve', [addressOf(path.text), addressOf(argv.pointers), addressOf(env.pointers)]);
  throw systemCallError(`cannot execute ${execution.path}`, errno);
}

/** `char *const strings[]`: pointers into the text, then NULL. */
function stringTable(strings: readonly string[]): { text: Buffer; pointers: Buffer } {
  const withNul = strings.find((text) => text.includes('\0'));
  if (withNul !== undefined) throw new RktError('BAD_INPUT', `an argument or variable for a program cannot hold a NUL character: ${JSON.stringify(withNul)}`);
  const texts = strings.map((text) => Buffer.from(`${text}\0`));
  const text = Buffer.concat(texts);
  const pointers = Buffer.alloc((strings.length + 1) * POINTER_BYTES);
  let address = texts.length === 0 ? 0 : addressOf(text);
  texts.forEach(({ length }, index) => {
    pointers.writeBigUInt64LE(BigInt(address), index * POINTER_BYTES);
    address += length;
  });
  keptAlive.push(text, pointers);
  return { text, pointers };
}
