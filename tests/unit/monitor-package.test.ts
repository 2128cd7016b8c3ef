import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { packageStage1, stage1Archive, stage1Manifest } from '../../scripts/package-stage1.ts';

const parts = {
  init: new Uint8Array(1000).fill(1), kernel: new Uint8Array(512).fill(2), initramfs: new Uint8Array(3).fill(3), kernelRelease: '6.1.1', kernelSource: 'own' as const, version: '2.0.0',
};

t.test('the manifest names the entrypoints of interface version 6', async (t) => {
  const manifest = JSON.parse(stage1Manifest(parts)) as { name: string; annotations: { name: string; value: string }[] };
  t.equal(manifest.name, 'coreos.com/rkt/stage1-kvm');
  const value = (name: string): string | undefined => manifest.annotations.find((annotation) => annotation.name === name)?.value;
  t.equal(value('coreos.com/rkt/stage1/run'), '/init');
  t.equal(value('coreos.com/rkt/stage1/enter'), '/enter');
  t.equal(value('coreos.com/rkt/stage1/gc'), '/gc');
  t.equal(value('coreos.com/rkt/stage1/stop'), '/stop');
  t.equal(value('coreos.com/rkt/stage1/interface-version'), '6');
  t.equal(value('rkt/kernel-source'), 'own');
  t.equal(value('rkt/kernel-release'), '6.1.1');
});

t.test('the archive is what tar takes for one, and always the same', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'monitor-package-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  for (const name of ['init', 'kernel', 'initramfs'] as const) writeFileSync(join(directory, name), parts[name]);
  const output = join(directory, 'stage1-kvm.aci');
  const options = { directory, output, kernel: { release: parts.kernelRelease, source: parts.kernelSource } };
  await packageStage1(options);
  const first = readFileSync(output);
  const list = execFileSync('tar', ['-tvf', output], { encoding: 'utf8' });
  t.match(list, /-rwxr-xr-x 0\/0 +1000 1970-01-01 .* rootfs\/init\n/);
  t.match(list, /rootfs\/enter link to rootfs\/init/);
  t.match(list, /rootfs\/stop link to rootfs\/init/);
  execFileSync('tar', ['-xf', output, '-C', directory]);
  t.same(new Uint8Array(readFileSync(join(directory, 'rootfs/gc'))), parts.init);
  t.same(new Uint8Array(readFileSync(join(directory, 'rootfs/kernel'))), parts.kernel);
  const before = statSync(output).mtimeMs;
  await packageStage1(options);
  t.equal(statSync(output).mtimeMs, before, 'unchanged parts leave the file alone');
  t.same(stage1Archive(parts), stage1Archive(parts));
  writeFileSync(join(directory, 'kernel'), new Uint8Array(512).fill(9));
  await packageStage1(options);
  t.notSame(readFileSync(output), first);
});
