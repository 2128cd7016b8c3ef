/** Signals as events: blocked for the process, read from a descriptor. Children must reset their mask (unblockSignals). */
import {
  NR_rt_sigprocmask, NR_signalfd4, SFD_CLOEXEC, SFD_NONBLOCK, SIG_BLOCK, SIG_SETMASK, SI_QUEUE,
  signalfd_siginfo_ssi_code, signalfd_siginfo_ssi_int, signalfd_siginfo_ssi_pid, signalfd_siginfo_ssi_signo, sizeof_signalfd_siginfo,
} from '../abi.gen.ts';
import type { Operation } from '../sys.ts';
import { check } from './errors.ts';
import { readRaw } from './fds.ts';

export interface ReceivedSignal {
  signal: number;
  /** Who sent it; 0 for the kernel. */
  pid: number;
  /** What a sender that queued it has sent along (sigqueue(3)). */
  value: number | undefined;
}

function signalSet(signals: readonly number[]): BigUint64Array {
  return new BigUint64Array([signals.reduce((set, signal) => set | (1n << BigInt(signal - 1)), 0n)]);
}

/** Blocks the signals and returns a non-blocking descriptor on which takeSignals finds them. */
export function openSignals(signals: readonly number[]): number {
  const set = signalSet(signals);
  check(sys.call(NR_rt_sigprocmask, SIG_BLOCK, set, null, 8), 'sigprocmask');
  return check(sys.call(NR_signalfd4, -1, set, 8, SFD_CLOEXEC | SFD_NONBLOCK), 'signalfd');
}

export function blockSignals(signals: readonly number[]): void {
  check(sys.call(NR_rt_sigprocmask, SIG_BLOCK, signalSet(signals), null, 8), 'sigprocmask');
}

/** First operation of a spawn list: nothing is blocked. */
export function unblockSignals(): Operation {
  return [NR_rt_sigprocmask, SIG_SETMASK, new BigUint64Array(1), null, 8];
}

const buffer = new Uint8Array(sizeof_signalfd_siginfo * 16);
const view = new DataView(buffer.buffer);

/** What has arrived since the last call. Equal signals may have been merged by the kernel. */
export function takeSignals(fd: number): ReceivedSignal[] {
  const signals: ReceivedSignal[] = [];
  for (;;) {
    const count = readRaw(fd, buffer);
    if (count <= 0) return signals;
    for (let offset = 0; offset < count; offset += sizeof_signalfd_siginfo) {
      signals.push({
        signal: view.getUint32(offset + signalfd_siginfo_ssi_signo, true),
        pid: view.getUint32(offset + signalfd_siginfo_ssi_pid, true),
        value: view.getInt32(offset + signalfd_siginfo_ssi_code, true) === SI_QUEUE ? view.getInt32(offset + signalfd_siginfo_ssi_int, true) : undefined,
      });
    }
  }
}
