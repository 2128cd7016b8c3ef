/** Which accelerator a pod runs on: what the user says, else what a probe found, once per boot of the host. */
import { ENOENT, F_SETFD, NR_close, NR_dup3, NR_execve, NR_fcntl, NR_prctl, O_RDONLY, PR_SET_PDEATHSIG, SIGKILL } from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { close, pipe, read, waitReadable } from '../../runtime/linux/fds.ts';
import { makeDirectories, open, readText, statIfAny } from '../../runtime/linux/files.ts';
import { writeJson } from '../../runtime/linux/json-file.ts';
import { kill, spawn, waitFor } from '../../runtime/linux/process.ts';
import { unblockSignals } from '../../runtime/linux/signals.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { Stage1Error } from '../error.ts';
import type { AcceleratorChoice } from '../options.ts';
import { judge, parseRecord, type AcceleratorRecord, type ProbeReport } from './policy.ts';

const RECORD_DIRECTORY = '/run/rkt';
const RECORD_PATH = `${RECORD_DIRECTORY}/accelerator.json`;
const PROBE_DEADLINE_MS = 300;
const KVM_DEVICE = '/dev/kvm';

export interface ChosenAccelerator {
  accelerator: 'kvm' | 'tcg';
  /** Group that may open /dev/kvm, for a QEMU without privileges; null under TCG. */
  kvmGroup: number | null;
}

/** @throws Stage1Error when KVM is asked for and there is none */
export function chooseAccelerator(choice: AcceleratorChoice): ChosenAccelerator {
  if (choice === 'tcg') return { accelerator: 'tcg', kvmGroup: null };
  const device = statIfAny(KVM_DEVICE);
  if (choice === 'kvm') {
    // Whoever insists gets it even where the probe advises against.
    if (device === undefined) throw new Stage1Error(`${KVM_DEVICE} does not exist`, 'use --accel=tcg, or enable virtualisation on this host');
    return { accelerator: 'kvm', kvmGroup: device.gid };
  }
  if (device === undefined || acceleratorRecord().accelerator === 'tcg') return { accelerator: 'tcg', kvmGroup: null };
  return { accelerator: 'kvm', kvmGroup: device.gid };
}

/** From the cache of this boot, or measured now. */
export function acceleratorRecord(): AcceleratorRecord {
  const bootId = readText('/proc/sys/kernel/random/boot_id').trim();
  const known = readRecord(bootId);
  if (known !== null) return known;
  const probe = measure();
  const { usable, reasons } = judge(probe);
  const record: AcceleratorRecord = { formatVersion: 1, bootId, accelerator: usable ? 'kvm' : 'tcg', reasons, probe };
  try {
    makeDirectories(RECORD_DIRECTORY);
    writeJson(RECORD_PATH, record);
  } catch (error) {
    // Not root, or a read-only /run: it is measured again next time.
    if (!(error instanceof SysError)) throw error;
  }
  return record;
}

function readRecord(bootId: string): AcceleratorRecord | null {
  try {
    return parseRecord(JSON.parse(readText(RECORD_PATH)), bootId);
  } catch {
    return null;
  }
}

function measure(): ProbeReport {
  const nothing: ProbeReport = { failure: null, loopMs: null, controlMs: null, exitsMs: null };
  try {
    close(open(KVM_DEVICE, O_RDONLY));
  } catch (error) {
    return { ...nothing, failure: isErrno(error, ENOENT) ? `${KVM_DEVICE} does not exist` : (error as Error).message };
  }
  const { readEnd, writeEnd } = pipe();
  const result = spawn([
    unblockSignals(),
    [NR_close, readEnd],
    [NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0],
    // Standard output is where it reports, whatever number the pipe has.
    writeEnd === 1 ? [NR_fcntl, 1, F_SETFD, 0] : [NR_dup3, writeEnd, 1, 0],
    [NR_execve, '/proc/self/exe', ['init', 'probe-accel'], []],
  ]);
  close(writeEnd);
  try {
    if (result.kind === 'failed') return { ...nothing, failure: 'the probe could not be started' };
    const text = readUntil(readEnd, monotonicMs() + PROBE_DEADLINE_MS);
    kill(result.pid, SIGKILL);
    waitFor(result.pid);
    const last = text.trim().split('\n').at(-1) ?? '';
    return last === '' ? { ...nothing, failure: 'setting up a guest through KVM does not come back' } : (JSON.parse(last) as ProbeReport);
  } finally {
    close(readEnd);
  }
}

/** Everything until the end of the pipe or the deadline. */
function readUntil(fd: number, deadlineMs: number): string {
  const buffer = new Uint8Array(4096);
  let text = '';
  for (;;) {
    const leftMs = Math.ceil(deadlineMs - monotonicMs());
    if (leftMs <= 0 || !waitReadable(fd, leftMs)) return text;
    const count = read(fd, buffer);
    if (count === 0) return text;
    text += sys.text(buffer.subarray(0, count));
  }
}

