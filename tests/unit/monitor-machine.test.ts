import t, { type Test } from 'tap';
import { kernelFormat } from '../../stage1-kvm/vmm/kernel-image.ts';
import { canonicalConfiguration, kernelCommandLine, planMachine, type VirtualMachine } from '../../stage1-kvm/vmm/machine.ts';
import { qemuArguments } from '../../stage1-kvm/vmm/qemu-arguments.ts';
import { machineSize } from '../../stage1-kvm/vmm/size.ts';

const base: Omit<VirtualMachine, 'board'> = {
  accelerator: 'tcg', size: { memoryMiB: 512, cpus: 1 }, network: 'none', volumes: [], vsock: 'own', tpm: false, hotPlug: false, givesBackMemory: false,
  disks: [{ serial: 'app-1', readOnly: true }, { serial: 'scratch', readOnly: false }],
};
const resources = { uuid: '11111111-2222-3333-4444-555555555555', ramFd: 4, kernelFd: 5, initramfsFd: 6, firmwareFd: 11, tpm: null, commandLine: 'quiet', diskFds: [7, 8], vsockFd: 9, guestCid: 3, qmpFd: null, consoleFd: 10, cards: [], volumeFds: [] };

/** The value behind an option, which must occur exactly once. */
function optionOf(t: Test, args: readonly string[], name: string): string {
  const at = args.flatMap((argument, i) => (argument === name ? [i] : []));
  t.equal(at.length, 1, `${name} once`);
  return args[at[0]! + 1]!;
}

const all = (args: readonly string[], name: string): string[] => args.flatMap((argument, i) => (argument === name ? [args[i + 1]!] : []));

t.test('size', async (t) => {
  const limits = { hostCpus: 8, memoryMiB: null, cpus: null, pod: { memoryLimitBytes: null, cpuLimit: null } };
  const app = (memoryMiB: number | null, cpuLimit: number | null) => ({ memoryLimitBytes: memoryMiB === null ? null : memoryMiB * 2 ** 20, cpuLimit });
  t.same(machineSize([app(null, null)], limits), { memoryMiB: 512, cpus: 1 });
  t.same(machineSize([app(384, 0.5)], limits), { memoryMiB: 512, cpus: 1 });
  t.same(machineSize([app(385, 0.5), app(100, 1)], limits), { memoryMiB: 613, cpus: 2 });
  t.same(machineSize([app(400.5, null)], limits), { memoryMiB: 529, cpus: 1 }, 'rounded up');
  t.same(machineSize([app(null, 0.1), app(null, 0.2), app(null, 0.7)], limits), { memoryMiB: 512, cpus: 1 }, 'tenths add up to one');
  t.same(machineSize([app(null, 64)], limits), { memoryMiB: 512, cpus: 8 }, 'not more than the host has');
  t.same(machineSize([app(4096, 4)], { ...limits, memoryMiB: 200, cpus: 2 }), { memoryMiB: 200, cpus: 2 }, 'as asked');
  t.throws(() => machineSize([app(null, null)], { ...limits, memoryMiB: 16 }), /at least 64 MiB/);
  const bounded = (memoryMiB: number, cpuLimit: number) => ({ ...limits, pod: app(memoryMiB, cpuLimit) });
  t.same(machineSize([app(4096, 4)], bounded(100, 1.5)), { memoryMiB: 228, cpus: 2 }, "the pod's own limits count more than the sum of the apps'");
  t.same(machineSize([app(null, null)], bounded(1024, 3)), { memoryMiB: 1152, cpus: 3 });
  t.same(machineSize([app(null, 1)], bounded(1024, 3)), { memoryMiB: 1152, cpus: 1 });
});

t.test('board', async (t) => {
  t.equal(planMachine('elf', base).board, 'microvm');
  t.equal(planMachine('bzimage', base).board, 'q35');
  const disks = Array.from({ length: 7 }, (_, i) => ({ serial: `app-${i + 1}`, readOnly: true }));
  t.equal(planMachine('elf', { ...base, disks }).board, 'microvm', 'eight devices');
  t.equal(planMachine('elf', { ...base, disks, volumes: ['volume-1'] }).board, 'q35', 'volumes are devices');
  const volumes = Array.from({ length: 28 }, (_, i) => `volume-${i + 1}`);
  t.throws(() => planMachine('elf', { ...base, volumes }), /need 31 devices: a machine has room for 30/);
  t.equal(planMachine('elf', { ...base, disks, network: 'user' }).board, 'q35', 'nine are more than there are transports');
});

t.test('kernel command line', async (t) => {
  t.equal(
    kernelCommandLine(planMachine('elf', base), 'elf'),
    'quiet panic=-1 reboot=t console=ttyS0 noreplace-smp pci=off virtio_mmio.device=512@0xfeb00000:5 virtio_mmio.device=512@0xfeb00200:6 virtio_mmio.device=512@0xfeb00400:7',
  );
  t.equal(kernelCommandLine(planMachine('elf', base), 'elf'), kernelCommandLine(planMachine('elf', { ...base, accelerator: 'kvm' }), 'elf'), 'does not depend on the host');
  t.notMatch(kernelCommandLine(planMachine('bzimage', base), 'bzimage'), /virtio_mmio/);
});

t.test('QEMU arguments', async (t) => {
  const args = qemuArguments(planMachine('elf', base), resources);
  for (const flag of ['-nodefaults', '-no-user-config', '-no-reboot']) t.ok(args.includes(flag), flag);
  t.equal(optionOf(t, args, '-sandbox'), 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny');
  t.match(optionOf(t, args, '-machine'), /^microvm,.*acpi=off,auto-kernel-cmdline=off/);
  t.match(optionOf(t, args, '-object'), /^memory-backend-file,id=ram,size=512M,mem-path=\/proc\/self\/fd\/4,share=on,align=2M$/);
  t.equal(optionOf(t, args, '-accel'), 'tcg,tb-size=128');
  const twoCpus = qemuArguments(planMachine('elf', { ...base, size: { ...base.size, cpus: 2 } }), resources);
  t.match(optionOf(t, twoCpus, '-accel'), /^tcg,thread=single/, 'emulated processors take turns');
  t.notOk(args.includes('-netdev'), 'no network device');
  for (const blockdev of all(args, '-blockdev')) t.match(blockdev, /^driver=raw,/, 'the format is never probed');
  t.match(all(args, '-blockdev')[0], /,read-only=on,/);
  t.match(all(args, '-blockdev')[1], /,read-only=off,/);
  t.same(all(args, '-device'), [
    'vhost-user-vsock-device,chardev=vsock,bus=virtio-mmio-bus.0',
    'virtio-blk-device,drive=disk0,serial=app-1,bus=virtio-mmio-bus.1',
    'virtio-blk-device,drive=disk1,serial=scratch,bus=virtio-mmio-bus.2',
  ]);
  t.notOk(args.some((argument) => argument.includes('=/') && !argument.startsWith('driver=raw') && !argument.startsWith('file,id=console') && !argument.includes('=/proc/self/fd/')), 'no path of the host');

  const network = qemuArguments(planMachine('bzimage', { ...base, network: 'user', accelerator: 'kvm' }), { ...resources, cards: [{ kind: 'user', ports: ['tcp:127.0.0.1:8080-80', 'udp::53-53'] }] });
  t.equal(optionOf(t, network, '-accel'), 'kvm');
  t.equal(optionOf(t, network, '-bios'), '/proc/self/fd/11');
  t.equal(optionOf(t, network, '-netdev'), 'user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp::53-:53');
  t.match(all(network, '-device').at(-1), /^virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,bus=pcie.0,addr=0x4,/);
  t.match(all(network, '-device')[0], /^vhost-user-vsock-pci,/);

  const taps = qemuArguments(planMachine('elf', { ...base, network: { taps: 2 } }), {
    ...resources,
    cards: [{ kind: 'tap', mac: '02:00:00:00:00:01', fds: [11], vhostFds: [] }, { kind: 'tap', mac: '02:00:00:00:00:02', fds: [12, 13], vhostFds: [14, 15] }],
  });
  t.same(all(taps, '-netdev'), ['tap,id=net0,fd=11', 'tap,id=net1,fds=12:13,vhost=on,vhostfds=14:15']);
  t.same(all(taps, '-device').slice(-2), [
    'virtio-net-device,netdev=net0,mac=02:00:00:00:00:01,bus=virtio-mmio-bus.3',
    'virtio-net-device,netdev=net1,mac=02:00:00:00:00:02,mq=on,bus=virtio-mmio-bus.4',
  ]);

  const balloon = planMachine('elf', { ...base, givesBackMemory: true });
  t.equal(all(qemuArguments(balloon, resources), '-device').at(-1), 'virtio-balloon-device,free-page-reporting=on,bus=virtio-mmio-bus.3', 'behind the others: their places do not change');
  t.match(canonicalConfiguration(balloon), /\{"slot":3,"type":"balloon"\}\]/);

  const kernelVsock = qemuArguments(planMachine('elf', { ...base, vsock: 'kernel' }), { ...resources, guestCid: 77 });
  t.match(all(kernelVsock, '-device')[0], /^vhost-vsock-device,guest-cid=77,vhostfd=9,/);
});

t.test('volumes as devices', async (t) => {
  const volumes = qemuArguments(planMachine('elf', { ...base, volumes: ['volume-1', 'volume-2'] }), { ...resources, volumeFds: [21, 22] });
  t.match(volumes.join(' '), /-chardev socket,id=volume1,fd=22 -device vhost-user-fs-device,chardev=volume1,tag=volume-2,queue-size=1024,bus=virtio-mmio-bus\.4$/);
  const pci = qemuArguments(planMachine('bzimage', { ...base, volumes: ['volume-1'] }), { ...resources, volumeFds: [21] });
  t.match(pci.join(' '), /-device vhost-user-fs-pci,chardev=volume0,tag=volume-1,queue-size=1024,bus=pcie\.0,addr=0x4$/);
});

t.test('canonical configuration', async (t) => {
  const text = canonicalConfiguration(planMachine('elf', base));
  t.equal(text, '{"accelerator":"tcg","board":"microvm","cpu":"qemu64,+arat,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt","cpus":1,"devices":[{"slot":0,"type":"vsock"},{"readOnly":true,"serial":"app-1","slot":1,"type":"disk"},{"readOnly":false,"serial":"scratch","slot":2,"type":"disk"}],"formatVersion":1,"memoryMiB":512,"tpm":false}');
  t.not(canonicalConfiguration(planMachine('elf', { ...base, size: { memoryMiB: 513, cpus: 1 } })), text);
});

t.test('kernel image', async (t) => {
  const elf = new Uint8Array(0x210);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2]);
  elf[18] = 62;
  t.equal(kernelFormat('k', elf), 'elf');
  elf[18] = 183;
  t.throws(() => kernelFormat('k', elf), /k: not a kernel for x86-64/);
  const bzimage = new Uint8Array(0x210);
  bzimage.set([0x48, 0x64, 0x72, 0x53], 0x202);
  t.equal(kernelFormat('k', bzimage), 'bzimage');
  t.throws(() => kernelFormat('k', new Uint8Array(0x210)), /k: not a Linux kernel/);
});
