import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { inspectKernel } from '../../initramfs/kernel-image.ts';
import { readModuleInfo } from '../../initramfs/module-info.ts';
import { modulesFor } from '../../initramfs/modules.ts';

const RELEASE = '6.1.0-test';

/** The smallest ELF file with a .modinfo section: header, names, info, three section headers. */
function elfModule(info: string[]): Buffer {
  const names = Buffer.from('\0.shstrtab\0.modinfo\0');
  const body = Buffer.from(info.map((line) => `${line}\0`).join(''));
  const tableOffset = 64 + names.length + body.length;
  const header = Buffer.alloc(64);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.writeBigUInt64LE(BigInt(tableOffset), 40);
  header.writeUInt16LE(64, 58);
  header.writeUInt16LE(3, 60);
  header.writeUInt16LE(1, 62);
  const section = (name: number, offset: number, size: number): Buffer => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(name, 0);
    bytes.writeBigUInt64LE(BigInt(offset), 24);
    bytes.writeBigUInt64LE(BigInt(size), 32);
    return bytes;
  };
  return Buffer.concat([header, names, body, section(0, 0, 0), section(1, 64, names.length), section(11, 64 + names.length, body.length)]);
}

function signed(module: Buffer): Buffer {
  const signature = Buffer.alloc(256, 0xaa);
  const descriptor = Buffer.alloc(12);
  descriptor.writeUInt32BE(signature.length, 8);
  return Buffer.concat([module, signature, descriptor, Buffer.from('~Module signature appended~\n')]);
}

/** A module directory as a distribution ships it; `depends` as modpost writes it. */
function moduleTree(files: Record<string, string>, builtIn: string[] = []): string {
  const directory = mkdtempSync(join(tmpdir(), 'modules-test-'));
  writeFileSync(join(directory, 'modules.builtin'), builtIn.map((name) => `kernel/x/${name}.ko\n`).join(''));
  for (const [path, depends] of Object.entries(files)) {
    const file = join(directory, 'kernel', path);
    mkdirSync(dirname(file), { recursive: true });
    const module = signed(elfModule([`license=GPL`, `depends=${depends}`, `vermagic=${RELEASE}`]));
    writeFileSync(file, path.endsWith('.gz') ? gzipSync(module) : path.endsWith('.zst') ? zstdCompressSync(module) : module);
  }
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

const TREE = {
  'drivers/block/virtio_blk.ko': 'virtio_ring,virtio',
  'drivers/virtio/virtio_pci.ko': 'virtio,virtio_ring,virtio_pci_modern_dev',
  'drivers/virtio/virtio.ko': '',
  'drivers/virtio/virtio_ring.ko': 'virtio',
  'drivers/virtio/virtio_pci_modern_dev.ko.gz': '',
  'drivers/net/virtio_net.ko': 'net-failover,virtio',
  'drivers/net/net_failover.ko': 'failover',
  'net/core/failover.ko': '',
  'net/vmw_vsock/vmw_vsock_virtio_transport.ko.zst': 'vmw_vsock_virtio_transport_common,vsock',
  'net/vmw_vsock/vmw_vsock_virtio_transport_common.ko': 'vsock',
  'net/vmw_vsock/vsock.ko': '',
  'drivers/md/dm-verity.ko': 'dm-mod,dm-bufio',
  'drivers/md/dm-mod.ko': '',
  'drivers/md/dm-bufio.ko': 'dm-mod',
  'fs/erofs/erofs.ko': '',
  'crypto/sha256_generic.ko': '',
  'drivers/unrelated.ko': '',
};

t.test('modules come after what they depend on, each once, and nothing unneeded', (t) => {
  const moduleDir = moduleTree(TREE, ['ext4', 'overlay']);
  const modules = modulesFor({ moduleDir, release: RELEASE });
  const names = modules.map((module) => module.name);
  for (const module of modules) {
    for (const dependency of readModuleInfo(module.bytes, module.name).depends) {
      const before = names.indexOf(dependency.replaceAll('-', '_'));
      t.ok(before >= 0 && before < names.indexOf(module.name), `${dependency} before ${module.name}`);
    }
  }
  t.equal(new Set(names).size, names.length, 'no module twice');
  t.ok(names.includes('dm_verity'), 'file name dm-verity.ko, module dm_verity');
  t.equal(names[0], 'sha256_generic', 'hashes before who asks for them');
  t.notOk(names.includes('unrelated'));
  t.same(modulesFor({ moduleDir, release: RELEASE }), modules, 'same kernel, same order');
  for (const module of modules) t.notOk(Buffer.from(module.bytes).includes('signature appended'), `${module.name} without signature`);
  t.end();
});

t.test('a kernel that cannot run a pod is refused by name', (t) => {
  const moduleDir = moduleTree(TREE, ['ext4']);
  t.throws(() => modulesFor({ moduleDir, release: RELEASE }), { code: 'UNSUPPORTED', message: /6\.1\.0-test has no driver overlay/ });
  t.throws(() => modulesFor({ moduleDir: '/nonexistent', release: RELEASE }), { code: 'NOT_FOUND' });
  const broken = moduleTree({ ...TREE, 'drivers/net/net_failover.ko': 'gone' }, ['ext4', 'overlay']);
  t.throws(() => modulesFor({ moduleDir: broken, release: RELEASE }), /no driver gone, which net_failover needs/);
  t.end();
});

t.test('what is no module is refused', (t) => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('#!/bin/sh\n'), elfModule(['x=y']).subarray(0, 80)]) {
    t.throws(() => readModuleInfo(bytes, 'x.ko'), { code: 'BAD_INPUT' });
  }
  t.end();
});

function bzImage(release: string): Buffer {
  const image = Buffer.alloc(0x1000);
  image.write('HdrS', 0x202);
  image.writeUInt16LE(0x500, 0x20e);
  image.write(`${release} (builder@host) #1 SMP\0`, 0x700);
  return image;
}

/** ELF file with one PT_NOTE segment of two notes, the second being Xen's of the given type. */
function vmlinux(noteType: number, text: string): Buffer {
  const note = (name: string, type: number, body: Buffer): Buffer => {
    const header = Buffer.alloc(12);
    header.writeUInt32LE(name.length + 1, 0);
    header.writeUInt32LE(body.length, 4);
    header.writeUInt32LE(type, 8);
    const padded = Buffer.alloc((name.length + 4) & ~3);
    padded.write(name);
    return Buffer.concat([header, padded, body, Buffer.alloc(-body.length & 3)]);
  };
  const notes = Buffer.concat([note('GNU', 3, Buffer.alloc(18)), note('Xen', noteType, Buffer.alloc(8))]);
  const header = Buffer.alloc(64 + 56);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(1, 56);
  header.writeUInt32LE(4, 64);
  header.writeBigUInt64LE(BigInt(header.length), 64 + 8);
  header.writeBigUInt64LE(BigInt(notes.length), 64 + 32);
  return Buffer.concat([header, notes, Buffer.from(text)]);
}

t.test('kernel files tell their release and how they can be started', (t) => {
  t.same(inspectKernel(bzImage('6.1.0-56-cloud-amd64'), 'x'), { format: 'bzImage', release: '6.1.0-56-cloud-amd64', pvh: false, virtioMmioFromCommandLine: false });
  const banner = 'Linux version 6.1.192-rkt (rkt@rkt)\0';
  t.same(inspectKernel(vmlinux(18, `${banner}virtio_mmio.device\0`), 'x'), { format: 'elf', release: '6.1.192-rkt', pvh: true, virtioMmioFromCommandLine: true });
  t.same(inspectKernel(vmlinux(7, banner), 'x'), { format: 'elf', release: '6.1.192-rkt', pvh: false, virtioMmioFromCommandLine: false });
  const damaged = vmlinux(18, banner);
  damaged.writeBigUInt64LE(1n << 40n, 32);
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(5000), vmlinux(18, 'some other program'), damaged]) {
    t.throws(() => inspectKernel(bytes, '/boot/thing'), { code: 'BAD_INPUT', message: /\/boot\/thing/ });
  }
  t.end();
});
