/** The two QEMU guests that `rkt run` is measured against. Each maker returns a function that boots one to its end and gives the wall time in ms. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { writeCpio } from '../initramfs/cpio.ts';
import { ensureDebianKernel } from '../kernel-config/debian-kernel.ts';
import { findOwnKernel } from '../kernel-config/own-kernel.ts';
import { cpuModel } from '../stage1-kvm/vmm/machine.ts';
import { floorInitramfs } from './floor/initramfs.ts';

const QEMU = 'qemu-system-x86_64';
/** As much as a pod without isolators gets. */
const MEMORY = '512M';

/** Debian's cloud kernel, its compressed image, QEMU's default machine and firmware, a busybox initramfs whose init runs /bin/true. */
export async function makeHandBuiltGuest(directory: string): Promise<() => number> {
  const kernel = await ensureDebianKernel();
  const initramfs = join(directory, 'busybox.cpio.gz');
  const init = '#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n/bin/busybox true\n/bin/busybox poweroff -f\n';
  writeFileSync(initramfs, gzipSync(writeCpio([
    { kind: 'directory', path: '.', mode: 0o755 },
    ...['bin', 'dev', 'proc'].map((path) => ({ kind: 'directory', path, mode: 0o755 }) as const),
    { kind: 'characterDevice', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { kind: 'file', path: 'bin/busybox', mode: 0o755, bytes: readFileSync('/bin/busybox') },
    { kind: 'file', path: 'init', mode: 0o755, bytes: new TextEncoder().encode(init) },
  ])));
  return boot(['-accel', 'tcg', '-m', MEMORY, '-nographic', '-no-reboot', '-kernel', kernel.path, '-initrd', initramfs, '-append', 'console=ttyS0 quiet panic=-1']);
}

/** Our kernel on the machine a pod gets, without any device but the serial port, and an init that resets at once. */
export async function makeFloorGuest(directory: string): Promise<() => number> {
  const kernel = findOwnKernel();
  if (kernel === undefined) throw new Error('the own kernel is not built: npm run build:kernel');
  const initramfs = join(directory, 'floor.cpio');
  writeFileSync(initramfs, floorInitramfs());
  return boot([
    '-machine', 'microvm,acpi=off,auto-kernel-cmdline=off,pic=on,pit=on,rtc=on,isa-serial=on,x-option-roms=off', '-accel', 'tcg', '-cpu', cpuModel('tcg'), '-m', MEMORY,
    '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'null',
    '-kernel', kernel.path, '-initrd', initramfs, '-append', 'quiet panic=-1 reboot=t console=ttyS0 noreplace-smp pci=off',
  ]);
}

function boot(args: readonly string[]): () => number {
  return () => {
    const begin = performance.now();
    execFileSync(QEMU, args, { stdio: 'ignore', timeout: 120_000 });
    return performance.now() - begin;
  };
}
