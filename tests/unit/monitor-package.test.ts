import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { FLY_FLAVOR, kvmFlavor, packageStage1, stage1Archive, stage1Manifest } from '../../scripts/package-stage1.ts';

const VERSION = '2.0.0';
const flavor = kvmFlavor({ release: '6.1.1', source: 'own' });
const files = new Map([['init', new Uint8Array(1000).fill(1)], ['kernel', new Uint8Array(512).fill(2)], ['initramfs', new Uint8Array(3).fill(3)]]);

t.test('the manifest names the entrypoints of interface version 6', async (t) => {
  const manifest = JSON.parse(stage1Manifest(flavor, VERSION)) as { name: string; annotations: { name: string; value: string }[] };
  t.equal(manifest.name, 'coreos.com/rkt/stage1-kvm');
  const value = (name: string): string | undefined => manifest.annotations.find((annotation) => annotation.name === name)?.value;
  t.equal(value('coreos.com/rkt/stage1/run'), '/init');
  t.equal(value('coreos.com/rkt/stage1/enter'), '/enter');
  t.equal(value('coreos.com/rkt/stage1/gc'), '/gc');
  t.equal(value('coreos.com/rkt/stage1/stop'), '/stop');
  t.equal(value('coreos.com/rkt/stage1/interface-version'), '6');
  t.equal(value('rkt/kernel-source'), 'own');
  t.equal(value('rkt/kernel-release'), '6.1.1');
  t.equal(value('rkt/rootfs'), 'disk');

  const fly = JSON.parse(stage1Manifest(FLY_FLAVOR, VERSION)) as typeof manifest;
  t.equal(fly.name, 'coreos.com/rkt/stage1-fly');
  t.notOk(fly.annotations.some(({ name }) => name.endsWith('/predict') || name.startsWith('rkt/kernel')));
});

t.test('the archive is what tar takes for one, and always the same', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'monitor-package-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  for (const [name, content] of files) writeFileSync(join(directory, name), content);
  const output = join(directory, 'stage1-kvm.aci');
  const options = { flavor, directory, output };
  await packageStage1(options);
  const first = readFileSync(output);
  const list = execFileSync('tar', ['-tvf', output], { encoding: 'utf8' });
  t.match(list, /-rwxr-xr-x 0\/0 +1000 1970-01-01 .* rootfs\/init\n/);
  t.match(list, /rootfs\/enter link to rootfs\/init/);
  t.match(list, /rootfs\/stop link to rootfs\/init/);
  execFileSync('tar', ['-xf', output, '-C', directory]);
  t.same(new Uint8Array(readFileSync(join(directory, 'rootfs/gc'))), files.get('init'));
  t.same(new Uint8Array(readFileSync(join(directory, 'rootfs/kernel'))), files.get('kernel'));
  const before = statSync(output).mtimeMs;
  await packageStage1(options);
  t.equal(statSync(output).mtimeMs, before, 'unchanged parts leave the file alone');
  t.same(await stage1Archive(flavor, VERSION, files), await stage1Archive(flavor, VERSION, files));
  writeFileSync(join(directory, 'kernel'), new Uint8Array(512).fill(9));
  await packageStage1(options);
  t.notSame(readFileSync(output), first);
});
