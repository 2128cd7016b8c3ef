/** Becoming another program: execve(2) with what Node leaves behind put right. */
import { callInts } from './libc.ts';
import { setCloseOnExec } from './descriptors.ts';

const SIGNAL_DEFAULT = 0;
/** Node ignores these, and a program started by execve would go on ignoring them. */
const SIGPIPE = 13;
const SIGXFSZ = 25;

export interface Execution {
  path: string;
  /** The whole argv, including argv[0]. */
  argv: string[];
  env: Record<string, string>;
  /** Descriptors besides 0, 1 and 2 that the program gets. */
  inherit: readonly number[];
}

/** Never returns. Throws when the program cannot be executed. */
export function replaceProcess(execution: Execution): never {
  for (const fd of execution.inherit) setCloseOnExec(fd, false);
  for (const signal of [SIGPIPE, SIGXFSZ]) callInts('signal', signal, SIGNAL_DEFAULT);
  if (process.execve === undefined) throw new Error('this Node has no process.execve');
  // The warning that execve is experimental would be printed on the next tick, which does not come.
  return process.execve(execution.path, execution.argv, execution.env);
}
