/** System calls from Node: becoming another program, sparse files, the writable disk, foreign kernels. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { writeCpio } from '../../initramfs/cpio.ts';
import { readCpioFile } from '../../initramfs/cpio-read.ts';
import { dataExtents } from '../../src/linux/sparse.ts';
import { resolveKernel } from '../../src/stage0/kernel.ts';
import { createScratchDisk } from '../../src/stage0/scratch.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const EXECUTE = new URL('../../src/linux/execute.ts', import.meta.url).href;

function replaced(execution: object, env: NodeJS.ProcessEnv = process.env): { stdout: string; status: number | null } {
  const program = `import { replaceProcess } from ${JSON.stringify(EXECUTE)}; import { openSync } from 'node:fs';
const [kept, closed] = [openSync('/dev/null', 'r'), openSync('/dev/null', 'r')];
const execution = JSON.parse(process.argv[1].replaceAll('KEPT', String(kept)).replaceAll('CLOSED', String(closed)));
try { replaceProcess({ inherit: [kept], ...execution }); } catch (error) { console.log(error.code, error.message, process.pid > 0); }`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', program, JSON.stringify(execution)], { encoding: 'utf8', env });
}

t.test('becoming another program', async (t) => {
  const script = 'echo "$0|$1|$2|$A|${B-unset}|${HOME-unset}"; grep -E "^Sig(Ign|Blk)" /proc/self/status; [ -e /proc/self/fd/KEPT ] && echo kept; [ -e /proc/self/fd/CLOSED ] || echo closed; exit 42';
  const { stdout, status } = replaced({ path: '/bin/sh', argv: ['zero', '-c', script, 'name', 'a b', 'ü€'], env: { A: 'x=y', PATH: '/usr/bin:/bin' } });
  t.equal(stdout, 'name|a b|ü€|x=y|unset|unset\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nkept\nclosed\n');
  t.equal(status, 42);
});

t.test('a program that cannot be executed is an error, not the end', async (t) => {
  const directory = scratchDir(t, 'exec');
  const broken = join(directory, 'broken');
  writeFileSync(broken, '#!/nonexistent/interpreter\n');
  chmodSync(broken, 0o755);
  t.equal(replaced({ path: broken, argv: ['x'], env: {} }).stdout, `NOT_FOUND cannot execute ${broken}: no such file or directory true\n`);
  t.equal(replaced({ path: directory, argv: ['x'], env: {} }).stdout, `PERMISSION cannot execute ${directory}: permission denied true\n`);
  t.match(replaced({ path: '/bin/sh', argv: ['a\0b'], env: {} }).stdout, /^BAD_INPUT .*cannot hold a NUL character/);
});

t.test('where a sparse file has data', async (t) => {
  const path = join(scratchDir(t, 'sparse'), 'file');
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, 2 ** 34);
  t.strictSame(dataExtents(fd), []);
  writeSync(fd, 'x', 5 * 2 ** 32 / 4);
  writeSync(fd, Buffer.alloc(8192, 1), 0, 8192, 0);
  const extents = dataExtents(fd);
  t.equal(extents.length, 2);
  t.strictSame(extents[0], { offsetBytes: 0, lengthBytes: 8192 });
  t.equal(extents[1]?.offsetBytes, 5 * 2 ** 30);
  closeSync(fd);
});

t.test('the writable disk: sparse, the same everywhere, nothing left to initialise', async (t) => {
  const [one, two] = [scratchDir(t, 'scratch'), scratchDir(t, 'scratch')];
  const paths = [join(one, 'a.img'), join(one, 'b.img'), join(two, 'c.img')];
  createScratchDisk(one, paths[0] ?? '');
  createScratchDisk(one, paths[1] ?? '');
  createScratchDisk(two, paths[2] ?? '');
  for (const path of paths) {
    t.equal(statSync(path).size, 16 * 2 ** 30);
    t.ok(statSync(path).blocks * 512 < 2 ** 20, 'far below a MiB');
  }
  const head = (path: string): Buffer => {
    const fd = openSync(path, 'r');
    const extents = dataExtents(fd);
    closeSync(fd);
    return Buffer.concat(extents.map(({ offsetBytes, lengthBytes }) => execFileSync('dd', [`if=${path}`, 'iflag=skip_bytes,count_bytes', `skip=${offsetBytes}`, `count=${lengthBytes}`, 'status=none'])));
  };
  t.ok(head(paths[0] ?? '').equals(head(paths[1] ?? '')));
  t.ok(head(paths[0] ?? '').equals(head(paths[2] ?? '')), 'made on another machine it would be the same');
  execFileSync('/sbin/e2fsck', ['-fn', paths[1] ?? ''], { stdio: 'ignore' });
  const groups = execFileSync('/sbin/dumpe2fs', [paths[1] ?? ''], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n').filter((line) => line.startsWith('Group '));
  t.equal(groups.length, 128);
  t.strictSame(groups.filter((line) => !line.includes('ITABLE_ZEROED')), []);
  t.throws(() => createScratchDisk(one, paths[0] ?? ''), { code: 'EEXIST' });

  const path = process.env['PATH'];
  t.teardown(() => void (process.env['PATH'] = path));
  process.env['PATH'] = '/nonexistent';
  t.equal(createScratchDisk(one, join(one, 'd.img')), undefined, 'with a template mke2fs is not needed');
});

t.test('--kernel: what needs modules gets an initramfs of its own', async (t) => {
  const directory = scratchDir(t, 'kernel');
  const rootfs = join(directory, 'rootfs');
  mkdirSync(rootfs);
  const agent = Buffer.from('agent');
  writeFileSync(join(rootfs, 'initramfs'), writeCpio([{ kind: 'directory', path: 'dev', mode: 0o755 }, { kind: 'file', path: 'init', mode: 0o755, bytes: agent }]));
  t.equal(Buffer.from(readCpioFile(readFileSync(join(rootfs, 'initramfs')), 'init') ?? []).toString(), 'agent');
  t.equal(readCpioFile(readFileSync(join(rootfs, 'initramfs')), 'missing'), undefined);
  t.throws(() => readCpioFile(Buffer.alloc(200, 1), 'init'), /expected an uncompressed cpio archive/);

  const place = { dataDir: directory, stage1Rootfs: rootfs };
  const elf = Buffer.alloc(4096);
  elf.set([0x7f, 0x45, 0x4c, 0x46]);
  elf.write('Linux version 99.9.9-none (someone)', 1024);
  writeFileSync(join(directory, 'vmlinux'), elf);
  t.strictSame(await resolveKernel(join(directory, 'vmlinux'), place), { kernelPath: join(directory, 'vmlinux') }, 'all drivers built in');

  const bzImage = Buffer.alloc(4096);
  bzImage.write('HdrS', 0x202);
  bzImage.writeUInt16LE(0x300, 0x20e);
  bzImage.write('99.9.9-none (someone)', 0x500);
  writeFileSync(join(directory, 'bzImage'), bzImage);
  await t.rejects(resolveKernel(join(directory, 'bzImage'), place), /no modules of kernel 99.9.9-none in \/lib\/modules\/99.9.9-none/);
  await t.rejects(resolveKernel(join(directory, 'none'), place), /cannot read the kernel/);
  writeFileSync(join(directory, 'text'), 'hello');
  await t.rejects(resolveKernel(join(directory, 'text'), place), /not a Linux kernel/);
});
