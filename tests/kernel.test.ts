/** Kernels other than the one in the stage1 image: a distribution's with modules, and a file that is none. */
import { existsSync, lstatSync, mkdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ensureDebianKernel } from '../kernel-config/debian-kernel.ts';
import { findOwnKernel } from '../kernel-config/own-kernel.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { makeHost } from './helpers/rkt.ts';

const image = busyboxImage();
const SHOW_KERNEL = ['--exec', '/bin/sh', '--', '-c', 'uname -r; touch /written && echo writable; exit 5'];

t.test('a distribution kernel: its modules come along', { skip: process.getuid?.() !== 0 && 'only root may put modules where a distribution has them' }, async (t) => {
  const kernel = await ensureDebianKernel();
  const installed = join('/lib/modules', kernel.release);
  const present = lstatSync(installed, { throwIfNoEntry: false }) !== undefined;
  if (!present) {
    mkdirSync('/lib/modules', { recursive: true });
    symlinkSync(kernel.moduleDir ?? '', installed);
    t.teardown(() => unlinkSync(installed));
  }
  const host = makeHost('debian-kernel');
  t.teardown(host.close);
  const result = await host.rkt(['run', '--net=user', `--kernel=${kernel.path}`, image, ...SHOW_KERNEL]);
  t.equal(result.stdout.toString(), `${kernel.release}\nwritable\n`, result.stderr);
  t.equal(result.status, 5);
});

t.test('the own kernel, named by path', { skip: findOwnKernel() === undefined && 'the own kernel is not built (npm run build:kernel)' }, async (t) => {
  const kernel = findOwnKernel();
  const host = makeHost('own-kernel');
  t.teardown(host.close);
  const result = await host.rkt(['run', '--net=none', `--kernel=${kernel?.path}`, image, ...SHOW_KERNEL]);
  t.equal(result.stdout.toString(), `${kernel?.release}\nwritable\n`, result.stderr);
  t.equal(result.status, 5);
});

t.test('more apps than the fast machine has places for', async (t) => {
  const host = makeHost('many-apps');
  t.teardown(host.close);
  const apps = Array.from({ length: 8 }, (_, index) => [image, `--name=app${index}`, '--exec', '/bin/sh', '--', '-c', `echo app ${index}`]);
  const result = await host.rkt(['run', '--net=none', ...apps.flatMap((app, index) => (index === 0 ? app : ['---', ...app]))]);
  t.equal(result.status, 0, result.stderr);
  for (let index = 0; index < 8; index++) t.match(result.stdout.toString(), new RegExp(`app${index}\\[\\d+\\]: app ${index}$`, 'm'));
});

t.test('what is no kernel is refused before anything is started', async (t) => {
  const host = makeHost('no-kernel');
  t.teardown(host.close);
  const path = join(host.workDir, 'kernel');
  writeFileSync(path, 'not a kernel');
  for (const [argument, says] of [[path, /kernel/], [join(host.workDir, 'missing'), /missing/]] as const) {
    const result = await host.rkt(['run', '--net=none', `--kernel=${argument}`, image, '--exec', '/bin/true']);
    t.equal(result.status, 254);
    t.match(result.stderr, says);
    t.notOk(existsSync(join(host.dataDir, 'pods/run')) && host.listing().some((entry) => /^pods\/run\/[^/]+\/vm\.json/.test(entry)));
  }
});
