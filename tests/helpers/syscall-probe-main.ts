/**
 * Makes every system call there is, each in a process of its own and with arguments that no call can do anything with, and prints
 * one line of results, `NUMBER:ERRNO` or how the process ended: what a seccomp filter does to its user.
 */
import '../../runtime/sys.ts';
import { NR_exit_group } from '../../runtime/abi.gen.ts';
import { errnoName } from '../../runtime/linux/errors.ts';
import { exit, spawn, waitFor } from '../../runtime/linux/process.ts';
import { unblockSignals } from '../../runtime/linux/signals.ts';
import { SYSCALLS_X86_64 } from '../../runtime/syscalls.gen.ts';

/** They end, wait for or multiply the process whatever they are given, or leave something behind. */
const LEFT_OUT = ['exit', 'exit_group', 'pause', 'fork', 'vfork', 'rt_sigreturn', 'msgget'];
const UNUSED_BEHIND = 8;

function resultOf(number: number): string {
  const result = spawn([unblockSignals(), [number, -1, -1, -1, -1, -1, -1], [NR_exit_group, 0]]);
  if (result.kind === 'failed') return result.failure.index === 1 ? errnoName(result.failure.errno) : 'broken';
  const end = waitFor(result.pid);
  return end.kind === 'signal' ? `signal${end.signal}` : end.code === 0 ? 'ok' : `status${end.code}`;
}

const names = SYSCALLS_X86_64.split(' ');
const results: string[] = [];
for (let number = 0; number < names.length + UNUSED_BEHIND; number++) {
  const name = names[number];
  if (name === undefined || !LEFT_OUT.includes(name)) results.push(`${name === undefined || name === '-' ? number : name}:${resultOf(number)}`);
}
const text = sys.utf8(`${results.join(' ')}\n`);
sys.call(1, 1, text, text.length - 1);
exit(0);
