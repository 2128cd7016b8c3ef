import { pointee } from '../helpers/fake-sys.ts';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, NR_clone3, NR_execve,
  NR_mount, NR_openat, NR_read, NR_reboot, NR_write, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sizeof_sock_filter, sock_fprog_filter,
} from '../../runtime/abi.gen.ts';
import { SYSCALLS_I386, SYSCALLS_X86_64 } from '../../runtime/syscalls.gen.ts';
import { compileFilter, encodeInstructions, filterProgram, policyOf, type Instruction } from '../../guest-agent/seccomp/filter.ts';
import type { SeccompRule } from '../../guest-agent/app/isolators.ts';
import { expandSet } from '../../guest-agent/seccomp/sets.ts';
import { defaultFilterModule } from '../../scripts/generate-default-filter.ts';
import { seededRandom } from '../helpers/random.ts';

const EPERM = 1;
const ENOSYS = 38;
const X86 = SYSCALLS_X86_64.split(' ');
const I386 = SYSCALLS_I386.split(' ');

/** Runs a filter as the kernel would; returns the action and how many instructions it took. */
function evaluate(program: readonly Instruction[], nr: number, arch: number): { action: number; steps: number } {
  let accumulator = 0;
  let steps = 0;
  for (let pc = 0; ; steps++) {
    const { code, jt, jf, k } = program[pc++]!;
    if (code === (BPF_LD | BPF_W | BPF_ABS)) accumulator = k === 0 ? nr >>> 0 : arch >>> 0;
    else if (code === (BPF_ALU | BPF_AND | BPF_K)) accumulator = (accumulator & k) >>> 0;
    else if (code === (BPF_JMP | BPF_JEQ | BPF_K)) pc += accumulator === k >>> 0 ? jt : jf;
    else if (code === (BPF_JMP | BPF_JGE | BPF_K)) pc += accumulator >= k ? jt : jf;
    else if (code === (BPF_JMP | BPF_JA)) pc += k;
    else if (code === (BPF_RET | BPF_K)) return { action: k, steps };
    else throw new Error(`instruction ${code}`);
  }
}

function filterOf(rule: SeccompRule | undefined, i386 = true): (nr: number, arch?: number) => number {
  const policy = policyOf(rule);
  if (policy === undefined) throw new Error('no filter');
  const program = compileFilter(policy, { i386 });
  return (nr, arch = AUDIT_ARCH_X86_64) => evaluate(program, nr, arch).action;
}

t.test('the default filter decides every call as its set says', async (t) => {
  const decide = filterOf(undefined);
  const allowed = expandSet(['@rkt/default-whitelist']);
  const blocked = (SECCOMP_RET_ERRNO | EPERM) >>> 0;
  for (const [table, arch] of [[X86, AUDIT_ARCH_X86_64], [I386, AUDIT_ARCH_I386]] as const) {
    table.forEach((name, nr) => {
      if (name === '-') return;
      const expected = allowed.has(name) ? SECCOMP_RET_ALLOW : blocked;
      if (decide(nr, arch) !== expected) t.fail(`${name} (${nr}): ${decide(nr, arch).toString(16)}`);
    });
    t.equal(decide(table.length, arch), SECCOMP_RET_ERRNO | ENOSYS, 'newer than the table: as on an older kernel');
  }
  for (const nr of [NR_read, NR_write, NR_openat, NR_execve, NR_clone3]) t.equal(decide(nr), SECCOMP_RET_ALLOW);
  for (const nr of [NR_mount, NR_reboot]) t.equal(decide(nr), blocked);
});

t.test('x32 calls are judged as their x86-64 counterparts', async (t) => {
  const decide = filterOf(undefined);
  const x32 = 0x40000000;
  t.equal(decide(x32 | NR_read), SECCOMP_RET_ALLOW);
  t.equal(decide(x32 | NR_mount), SECCOMP_RET_ERRNO | EPERM);
  t.equal(decide(x32 | 520), SECCOMP_RET_ALLOW, 'execve has a number of its own');
  t.equal(decide(x32 | 528), SECCOMP_RET_ERRNO | EPERM, 'so has kexec_load');
});

t.test('other architectures are killed', async (t) => {
  const decide = filterOf(undefined, false);
  t.equal(decide(0, AUDIT_ARCH_I386), SECCOMP_RET_KILL_PROCESS);
  t.equal(decide(0, 0xc00000b7), SECCOMP_RET_KILL_PROCESS);
  t.equal(filterOf(undefined, true)(0, 0xc00000b7), SECCOMP_RET_KILL_PROCESS);
});

t.test('a call takes few instructions', async (t) => {
  const program = compileFilter(policyOf(undefined)!, { i386: false });
  const worst = Math.max(...X86.map((_, nr) => evaluate(program, nr, AUDIT_ARCH_X86_64).steps));
  t.ok(worst <= 14, `${worst} instructions`);
  t.ok(program.length < 200, `${program.length} instructions in all`);
});

t.test('retain sets', async (t) => {
  const killed = filterOf({ mode: 'retain', set: ['read'], errno: undefined });
  t.equal(killed(NR_read), SECCOMP_RET_ALLOW);
  t.equal(killed(NR_write), SECCOMP_RET_KILL_PROCESS);
  t.equal(killed(NR_execve), SECCOMP_RET_ALLOW, 'or nothing could be started');
  t.equal(filterOf({ mode: 'retain', set: ['read'], errno: 'ENOSYS' })(NR_write), SECCOMP_RET_ERRNO | ENOSYS);
  t.equal(policyOf({ mode: 'retain', set: ['@appc.io/all'], errno: undefined }), undefined, 'no filter at all');
  t.equal(filterOf({ mode: 'retain', set: ['@appc.io/empty'], errno: 'EPERM' })(NR_read), SECCOMP_RET_ERRNO | EPERM);
  t.equal(filterOf({ mode: 'retain', set: ['@systemd/network-io', 'read'], errno: 'EPERM' })(X86.indexOf('socket')), SECCOMP_RET_ALLOW);
});

t.test('remove sets', async (t) => {
  const decide = filterOf({ mode: 'remove', set: ['@rkt/default-blacklist', 'write'], errno: 'EPERM' });
  t.equal(decide(NR_read), SECCOMP_RET_ALLOW);
  t.equal(decide(NR_write), SECCOMP_RET_ERRNO | EPERM);
  t.equal(decide(NR_mount), SECCOMP_RET_ERRNO | EPERM);
  t.equal(decide(9999), SECCOMP_RET_ALLOW);
  t.equal(filterOf({ mode: 'remove', set: ['@appc.io/empty'], errno: undefined })(NR_mount), SECCOMP_RET_ERRNO | EPERM, 'the default filter');
  t.throws(() => policyOf({ mode: 'remove', set: ['@appc.io/all'], errno: undefined }), { message: /remove every system call/ });
});

t.test('what does not exist is refused', async (t) => {
  t.throws(() => policyOf({ mode: 'retain', set: ['@no/such'], errno: undefined }), { message: 'unknown seccomp wildcard "@no/such"' });
  t.throws(() => policyOf({ mode: 'retain', set: ['read'], errno: 'EWHAT' }), { message: 'seccomp: unknown errno "EWHAT"' });
  t.throws(() => policyOf({ mode: 'remove', set: ['mkdir', 'mkdirr'], errno: undefined }), { message: 'seccomp-remove-set: unknown system call "mkdirr"' });
  t.ok(policyOf({ mode: 'retain', set: ['mkdir', 'of_another_kernel'], errno: undefined }), 'what is not there takes nothing away from what is allowed');
});

t.test('any set gives a filter that decides as the set does', async (t) => {
  const random = seededRandom(7);
  for (let round = 0; round < 60; round++) {
    const set = X86.filter((name) => name !== '-' && random.below(2) === 0);
    const decide = filterOf({ mode: 'remove', set, errno: 'EPERM' });
    const removed = new Set(set);
    X86.forEach((name, nr) => {
      if (name !== '-' && decide(nr) !== (removed.has(name) ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW)) t.fail(`round ${round}: ${name}`);
    });
  }
});

t.test('encoding', async (t) => {
  const program = compileFilter(policyOf(undefined)!, { i386: false });
  const header = filterProgram(encodeInstructions(program));
  t.equal(new DataView(header.buffer).getUint16(0, true), program.length);
  const bytes = pointee(header, sock_fprog_filter) as Uint8Array;
  t.equal(bytes.length, program.length * sizeof_sock_filter);
  const view = new DataView(bytes.buffer);
  t.equal(view.getUint32(1 * 8 + 4, true), AUDIT_ARCH_X86_64);
});

t.test('the filter that was compiled ahead is the one that would be compiled', async (t) => {
  const path = join(import.meta.dirname, '../../guest-agent/seccomp/default-filter.gen.ts');
  t.equal(readFileSync(path, 'utf8'), defaultFilterModule(), 'else run: node scripts/generate-default-filter.ts');
});
