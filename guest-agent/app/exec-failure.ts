/** Why a program could not be executed, in rkt's words. Paths are the app's: call it with the app's root as this process's root. */
import { EACCES, NR_faccessat2, AT_FDCWD, O_NOCTTY, O_NONBLOCK, O_RDONLY, X_OK } from '../../runtime/abi.gen.ts';
import { errnoText } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { exists, fstat, isDirectory, isRegularFile, open, readAt, statIfAny } from '../../runtime/linux/files.ts';

const PT_INTERP = 3;
const SCRIPT_LINE_MAX_BYTES = 256;
const PROGRAM_HEADERS_MAX = 64;

export interface FailedExecution {
  command: string;
  /** Paths that were tried, in order. */
  candidates: readonly string[];
  errno: number;
  searchPath: string;
}

export function explainExecFailure({ command, candidates, errno, searchPath }: FailedExecution): string {
  const found = candidates.find((path) => exists(path));
  if (found === undefined) {
    return command.includes('/') ? `Unable to open "${command}": No such file or directory` : `Unable to find "${command}" in "${searchPath}"`;
  }
  const status = statIfAny(found);
  if (status !== undefined && isDirectory(status)) return `Unable to execute "${found}": Is a directory`;
  const interpreter = interpreterOf(found);
  if (interpreter !== undefined && !exists(interpreter)) {
    return `Unable to open "${interpreter}", the interpreter of "${found}": No such file or directory`;
  }
  const notExecutable = sys.call(NR_faccessat2, AT_FDCWD, found, X_OK, 0) < 0;
  if (notExecutable || errno === EACCES) return `Unable to execute "${found}": Permission denied`;
  return `Unable to execute "${found}": ${errnoText(errno)}`;
}

/** What a script or a dynamically linked program needs to be run. */
function interpreterOf(path: string): string | undefined {
  let fd: number;
  try {
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    return undefined;
  }
  try {
    if (!isRegularFile(fstat(fd))) return undefined;
    const head = new Uint8Array(SCRIPT_LINE_MAX_BYTES);
    const length = readAt(fd, head, 0);
    if (head[0] === 0x23 && head[1] === 0x21) return scriptInterpreter(sys.text(head.subarray(2, length)));
    return head[0] === 0x7f && head[4] === 2 ? elfInterpreter(fd, head) : undefined;
  } catch {
    return undefined;
  } finally {
    close(fd);
  }
}

function scriptInterpreter(text: string): string | undefined {
  const line = (text.split('\n')[0] ?? '').trim();
  const end = line.indexOf(' ');
  return (end < 0 ? line : line.slice(0, end)) || undefined;
}

/** 64-bit ELF (System V ABI, chapter 5): the string that the PT_INTERP program header points to. */
function elfInterpreter(fd: number, head: Uint8Array): string | undefined {
  const view = new DataView(head.buffer);
  const tableOffset = Number(view.getBigUint64(32, true));
  const entrySize = view.getUint16(54, true);
  const count = Math.min(view.getUint16(56, true), PROGRAM_HEADERS_MAX);
  for (let index = 0; index < count; index++) {
    const entry = new Uint8Array(56);
    if (readAt(fd, entry, tableOffset + index * entrySize) < entry.length) return undefined;
    const header = new DataView(entry.buffer);
    if (header.getUint32(0, true) !== PT_INTERP) continue;
    const name = new Uint8Array(Math.min(Number(header.getBigUint64(32, true)), 4096));
    const length = readAt(fd, name, Number(header.getBigUint64(8, true)));
    const end = name.indexOf(0);
    return sys.text(name.subarray(0, end < 0 ? length : Math.min(end, length)));
  }
  return undefined;
}
