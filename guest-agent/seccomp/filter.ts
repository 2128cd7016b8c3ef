/**
 * Seccomp filters as classic BPF (linux/seccomp.h, Documentation/userspace-api/seccomp_filter.rst). Every system call of an app
 * runs through it, so the numbers are searched as ranges in a balanced tree instead of one by one.
 */
import {
  AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_MAXINSNS, BPF_RET, BPF_W, ENOSYS, EPERM,
  SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, seccomp_data_arch, seccomp_data_nr, sizeof_sock_filter, sizeof_sock_fprog, sock_filter_code,
  sock_filter_jf, sock_filter_jt, sock_filter_k, sock_fprog_filter, sock_fprog_len,
} from '../../runtime/abi.gen.ts';
import { errnoNumber } from '../../runtime/linux/errors.ts';
import { SYSCALLS_I386, SYSCALLS_X32_FROM_512, SYSCALLS_X86_64 } from '../../runtime/syscalls.gen.ts';
import { pointTo, type Bytes } from '../../runtime/sys.ts';
import type { SeccompRule } from '../app/isolators.ts';
import { BadFieldError } from '../checked.ts';
import { ALL, ALWAYS_RETAINED, EMPTY, expandSet, RKT_DEFAULT } from './sets.ts';

/** x32 calls have this bit set; they are judged by the same numbers as x86-64, plus a few of their own from 512 on. */
const X32_BIT = 0x40000000;
const X32_OWN_FROM = 512;
/** Numbers that later kernels will use. */
const UNASSIGNED = '+';

export interface Instruction {
  code: number;
  jt: number;
  jf: number;
  k: number;
}

/** What happens to calls, by name; values are SECCOMP_RET_…. */
export interface FilterPolicy {
  names: ReadonlySet<string>;
  named: number;
  others: number;
  /** Numbers newer than the tables. */
  unknown: number;
}

export interface FilterOptions {
  /** Whether the kernel runs 32-bit programs; if not, they are killed rather than judged. */
  i386: boolean;
}

/** Undefined when nothing is to be filtered. Throws BadFieldError for a set or errno that does not exist. */
export function policyOf(rule: SeccompRule | undefined): FilterPolicy | undefined {
  if (rule === undefined) return defaultPolicy();
  const { mode, set } = rule;
  if (set.includes(ALL)) {
    if (mode === 'retain') return undefined;
    throw new BadFieldError(`seccomp-remove-set: ${ALL} would remove every system call`);
  }
  if (mode === 'remove' && set.includes(EMPTY)) return defaultPolicy();
  const blocked = rule.errno === undefined ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | requiredErrno(rule.errno);
  const names = expandSet(set);
  if (mode === 'remove') {
    // In a retain set a name that no kernel knows takes nothing away; here it would protect from nothing.
    rejectUnknown(set);
    return { names, named: blocked, others: SECCOMP_RET_ALLOW, unknown: SECCOMP_RET_ALLOW };
  }
  for (const name of ALWAYS_RETAINED.split(' ')) names.add(name);
  return { names, named: SECCOMP_RET_ALLOW, others: blocked, unknown: blocked };
}

/**
 * Refuses with EPERM instead of killing: the list cannot know what tomorrow's C libraries try before they fall back. For the same
 * reason calls newer than the tables answer as on an old kernel.
 */
function defaultPolicy(): FilterPolicy {
  return { names: expandSet([RKT_DEFAULT]), named: SECCOMP_RET_ALLOW, others: SECCOMP_RET_ERRNO | EPERM, unknown: SECCOMP_RET_ERRNO | ENOSYS };
}

function rejectUnknown(set: readonly string[]): void {
  const known = new Set([SYSCALLS_X86_64, SYSCALLS_X32_FROM_512, SYSCALLS_I386].flatMap((table) => table.split(' ')));
  const unknown = set.find((name) => !name.startsWith('@') && !known.has(name));
  if (unknown !== undefined) throw new BadFieldError(`seccomp-remove-set: unknown system call "${unknown}"`);
}

function requiredErrno(name: string): number {
  const errno = errnoNumber(name);
  if (errno === undefined) throw new BadFieldError(`seccomp: unknown errno "${name}"`);
  return errno;
}

interface Range {
  from: number;
  action: number;
}

/** Consecutive numbers with the same action become one range; the last one has no end. */
function rangesOf(table: readonly string[], policy: FilterPolicy): Range[] {
  const ranges: Range[] = [];
  const append = (from: number, action: number): void => {
    if (ranges.at(-1)?.action !== action) ranges.push({ from, action });
  };
  table.forEach((name, number) => {
    // A hole in the table takes the action of its neighbour: the kernel answers ENOSYS anyway, and fewer ranges are a smaller tree.
    if (name === UNASSIGNED) append(number, policy.unknown);
    else if (name !== '-') append(number, policy.names.has(name) ? policy.named : policy.others);
  });
  append(table.length, policy.unknown);
  const first = ranges[0];
  if (first !== undefined) first.from = 0;
  return ranges;
}

function x86Table(): string[] {
  const table = SYSCALLS_X86_64.split(' ');
  SYSCALLS_X32_FROM_512.split(' ').forEach((name, index) => {
    while (table.length < X32_OWN_FROM) table.push(UNASSIGNED);
    table[X32_OWN_FROM + index] = name;
  });
  return table;
}

const statement = (code: number, k: number): Instruction => ({ code, jt: 0, jf: 0, k: k >>> 0 });

/** Decides about the number in the accumulator. Every path returns. */
function searchTree(ranges: readonly Range[]): Instruction[] {
  const middle = ranges.length >> 1;
  const right = ranges[middle];
  if (middle === 0 || right === undefined) return [statement(BPF_RET | BPF_K, ranges[0]?.action ?? SECCOMP_RET_KILL_PROCESS)];
  const below = searchTree(ranges.slice(0, middle));
  const above = searchTree(ranges.slice(middle));
  if (below.length <= 255) return [{ code: BPF_JMP | BPF_JGE | BPF_K, jt: below.length, jf: 0, k: right.from }, ...below, ...above];
  // Conditional jumps reach 255 instructions; the unconditional one has 32 bits.
  return [{ code: BPF_JMP | BPF_JGE | BPF_K, jt: 0, jf: 1, k: right.from }, statement(BPF_JMP | BPF_JA, below.length), ...below, ...above];
}

export function compileFilter(policy: FilterPolicy, options: FilterOptions): Instruction[] {
  const loadNumber = statement(BPF_LD | BPF_W | BPF_ABS, seccomp_data_nr);
  const native = [loadNumber, statement(BPF_ALU | BPF_AND | BPF_K, ~X32_BIT), ...searchTree(rangesOf(x86Table(), policy))];
  const foreign = options.i386
    ? [
        { code: BPF_JMP | BPF_JEQ | BPF_K, jt: 1, jf: 0, k: AUDIT_ARCH_I386 },
        statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        loadNumber,
        ...searchTree(rangesOf(SYSCALLS_I386.split(' '), policy)),
      ]
    : [statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)];
  const program = [
    statement(BPF_LD | BPF_W | BPF_ABS, seccomp_data_arch),
    { code: BPF_JMP | BPF_JEQ | BPF_K, jt: 1, jf: 0, k: AUDIT_ARCH_X86_64 },
    statement(BPF_JMP | BPF_JA, native.length),
    ...native,
    ...foreign,
  ];
  if (program.length > BPF_MAXINSNS) throw new RangeError(`seccomp filter of ${program.length} instructions`);
  return program;
}

/** struct sock_filter[]. */
export function encodeInstructions(program: readonly Instruction[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(program.length * sizeof_sock_filter);
  const view = new DataView(bytes.buffer);
  program.forEach(({ code, jt, jf, k }, index) => {
    const offset = index * sizeof_sock_filter;
    view.setUint16(offset + sock_filter_code, code, true);
    view.setUint8(offset + sock_filter_jt, jt);
    view.setUint8(offset + sock_filter_jf, jf);
    view.setUint32(offset + sock_filter_k, k, true);
  });
  return bytes;
}

/** A struct sock_fprog for the seccomp call; it holds on to the instructions it points to. */
export function filterProgram(instructions: Bytes): Uint8Array {
  const header = new Uint8Array(sizeof_sock_fprog);
  new DataView(header.buffer).setUint16(sock_fprog_len, instructions.byteLength / sizeof_sock_filter, true);
  pointTo(header, sock_fprog_filter, instructions);
  return header;
}
