/**
 * Runs a guest of a few instructions in ring 0, 64-bit mode with paging, through KVM (linux/Documentation/virt/kvm/api.rst).
 * It counts, reloads its page tables and leaves through a port, and says how long each took. Runs as a process of its
 * own, `init probe-accel`: on a host where KVM_RUN does not come back, its parent kills it.
 */
import {
  KVM_API_VERSION, KVM_CREATE_IRQCHIP, KVM_CREATE_VCPU, KVM_CREATE_VM, KVM_EXIT_HLT, KVM_EXIT_IO, KVM_GET_API_VERSION, KVM_GET_SREGS, KVM_GET_VCPU_MMAP_SIZE, KVM_RUN,
  KVM_SET_REGS, KVM_SET_SREGS, KVM_SET_TSS_ADDR, KVM_SET_USER_MEMORY_REGION, MAP_ANONYMOUS, MAP_PRIVATE, NR_ioctl, O_RDWR, kvm_regs_rflags, kvm_regs_rip,
  kvm_run_exit_reason, kvm_segment_base, kvm_segment_db, kvm_segment_dpl, kvm_segment_g, kvm_segment_l, kvm_segment_limit, kvm_segment_present, kvm_segment_s,
  kvm_segment_selector, kvm_segment_type, kvm_sregs_cr0, kvm_sregs_cr3, kvm_sregs_cr4, kvm_sregs_cs, kvm_sregs_ds, kvm_sregs_efer, kvm_sregs_es, kvm_sregs_ss,
  kvm_userspace_memory_region_memory_size, kvm_userspace_memory_region_userspace_addr, sizeof_kvm_regs, sizeof_kvm_sregs, sizeof_kvm_userspace_memory_region,
} from '../../runtime/abi.gen.ts';
import { check, SysError } from '../../runtime/linux/errors.ts';
import { ioctl, writeAll } from '../../runtime/linux/fds.ts';
import { open } from '../../runtime/linux/files.ts';
import { mapMemory } from '../../runtime/linux/memory.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { CONTROL_ITERATIONS, EXIT_ITERATIONS, LOOP_ITERATIONS, ROUNDS, type ProbeReport } from './policy.ts';

const MEMORY_BYTES = 0x10000;
const PML4 = 0x1000;
const PAGE_DIRECTORY_POINTERS = 0x2000;
const PAGE_DIRECTORY = 0x3000;
const CODE = 0x4000;
const PORT = 0xf4;
/** Where Intel's hardware wants three pages to itself. */
const TSS_ADDRESS = 0xfffbd000;

function little32(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >>> 24) & 0xff];
}

/** x86-64 machine code: the three parts, ROUNDS times, then hlt. */
const ROUND_CODE = [
  0xb9, ...little32(LOOP_ITERATIONS), // mov ecx, N
  0xff, 0xc9, 0x75, 0xfc, // 1: dec ecx; jnz 1b
  0xe6, PORT, // out PORT, al
  0xb9, ...little32(CONTROL_ITERATIONS),
  0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0xff, 0xc9, 0x75, 0xf6, // 2: mov rax, cr3; mov cr3, rax; dec ecx; jnz 2b
  0xe6, PORT,
  0xb9, ...little32(EXIT_ITERATIONS),
  0xe6, PORT, 0xff, 0xc9, 0x75, 0xfa, // 3: out PORT, al; dec ecx; jnz 3b
];
const GUEST_CODE = Uint8Array.from([...Array.from({ length: ROUNDS }, () => ROUND_CODE).flat(), 0xf4]);

/** Writes the report as it grows, one JSON line each time: the last one tells how far it came. */
export function probeKvm(outputFd: number): void {
  const report: ProbeReport = { failure: null, loopMs: null, controlMs: null, exitsMs: null };
  const tell = (): void => writeAll(outputFd, sys.utf8(`${JSON.stringify(report)}\n`).subarray(0, -1));
  try {
    runGuest(report, tell);
  } catch (error) {
    report.failure = error instanceof SysError ? error.message : String(error);
  }
  tell();
}

function runGuest(report: ProbeReport, tell: () => void): void {
  const run = createGuest();
  const time = (exits: number, best: number | null): number => {
    const start = monotonicMs();
    for (let i = 0; i < exits; i++) run(KVM_EXIT_IO);
    return Math.min(monotonicMs() - start, best ?? Infinity);
  };
  report.failure = 'a guest of a few instructions does not come back';
  tell();
  for (let round = 0; round < ROUNDS; round++) {
    report.loopMs = time(1, report.loopMs);
    tell();
    report.controlMs = time(1, report.controlMs);
    report.exitsMs = time(EXIT_ITERATIONS, report.exitsMs);
    tell();
  }
  run(KVM_EXIT_HLT);
  report.failure = canCreateInterruptController() ? null : 'KVM has no interrupt controller';
}

/** @returns runs it until its next exit, which must be the given one */
function createGuest(): (expectedExit: number) => void {
  const kvm = open('/dev/kvm', O_RDWR);
  const version = ioctl(kvm, KVM_GET_API_VERSION, 0, 'KVM_GET_API_VERSION');
  if (version !== KVM_API_VERSION) throw new Error(`KVM speaks version ${version} of its interface`);
  const vm = ioctl(kvm, KVM_CREATE_VM, 0, 'KVM_CREATE_VM');
  ioctl(vm, KVM_SET_TSS_ADDR, TSS_ADDRESS, 'KVM_SET_TSS_ADDR');
  const memory = mapMemory({ fd: -1, lengthBytes: MEMORY_BYTES, flags: MAP_PRIVATE | MAP_ANONYMOUS });
  fillMemory(memory.buffer);
  const region = new Uint8Array(sizeof_kvm_userspace_memory_region);
  const regionView = new DataView(region.buffer);
  regionView.setBigUint64(kvm_userspace_memory_region_memory_size, BigInt(MEMORY_BYTES), true);
  regionView.setBigUint64(kvm_userspace_memory_region_userspace_addr, BigInt(memory.address), true);
  ioctl(vm, KVM_SET_USER_MEMORY_REGION, region, 'KVM_SET_USER_MEMORY_REGION');
  const vcpu = ioctl(vm, KVM_CREATE_VCPU, 0, 'KVM_CREATE_VCPU');
  const state = mapMemory({ fd: vcpu, lengthBytes: ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, 'KVM_GET_VCPU_MMAP_SIZE') });
  setRegisters(vcpu);
  const stateView = new DataView(state.buffer);
  return (expectedExit) => {
    check(sys.call(NR_ioctl, vcpu, KVM_RUN, 0), 'KVM_RUN');
    const reason = stateView.getUint32(kvm_run_exit_reason, true);
    if (reason !== expectedExit) throw new Error(`KVM_RUN ended with exit reason ${reason} instead of ${expectedExit}`);
  };
}

function fillMemory(buffer: ArrayBuffer): void {
  const view = new DataView(buffer);
  const presentWritable = 3n;
  const largePage = 0x80n;
  view.setBigUint64(PML4, BigInt(PAGE_DIRECTORY_POINTERS) | presentWritable, true);
  view.setBigUint64(PAGE_DIRECTORY_POINTERS, BigInt(PAGE_DIRECTORY) | presentWritable, true);
  view.setBigUint64(PAGE_DIRECTORY, presentWritable | largePage, true);
  new Uint8Array(buffer).set(GUEST_CODE, CODE);
}

/** 64-bit mode, paging on, interrupts off. */
function setRegisters(vcpu: number): void {
  const special = new Uint8Array(sizeof_kvm_sregs);
  ioctl(vcpu, KVM_GET_SREGS, special, 'KVM_GET_SREGS');
  const view = new DataView(special.buffer);
  const setSegment = (at: number, isCode: boolean): void => {
    view.setBigUint64(at + kvm_segment_base, 0n, true);
    view.setUint32(at + kvm_segment_limit, 0xffffffff, true);
    view.setUint16(at + kvm_segment_selector, isCode ? 8 : 16, true);
    view.setUint8(at + kvm_segment_type, isCode ? 11 : 3);
    view.setUint8(at + kvm_segment_present, 1);
    view.setUint8(at + kvm_segment_dpl, 0);
    view.setUint8(at + kvm_segment_db, isCode ? 0 : 1);
    view.setUint8(at + kvm_segment_s, 1);
    view.setUint8(at + kvm_segment_l, isCode ? 1 : 0);
    view.setUint8(at + kvm_segment_g, 1);
  };
  setSegment(kvm_sregs_cs, true);
  for (const at of [kvm_sregs_ds, kvm_sregs_es, kvm_sregs_ss]) setSegment(at, false);
  view.setBigUint64(kvm_sregs_cr0, 0x80000001n, true); // PG, PE
  view.setBigUint64(kvm_sregs_cr3, BigInt(PML4), true);
  view.setBigUint64(kvm_sregs_cr4, 0x20n, true); // PAE
  view.setBigUint64(kvm_sregs_efer, 0x500n, true); // LMA, LME
  ioctl(vcpu, KVM_SET_SREGS, special, 'KVM_SET_SREGS');
  const registers = new Uint8Array(sizeof_kvm_regs);
  const registersView = new DataView(registers.buffer);
  registersView.setBigUint64(kvm_regs_rip, BigInt(CODE), true);
  registersView.setBigUint64(kvm_regs_rflags, 2n, true);
  ioctl(vcpu, KVM_SET_REGS, registers, 'KVM_SET_REGS');
}

/** Whether the interrupt controller QEMU uses can be made; a VM of its own, because then hlt would not end KVM_RUN. */
function canCreateInterruptController(): boolean {
  const kvm = open('/dev/kvm', O_RDWR);
  const vm = ioctl(kvm, KVM_CREATE_VM, 0, 'KVM_CREATE_VM');
  return sys.call(NR_ioctl, vm, KVM_CREATE_IRQCHIP, 0) >= 0;
}
