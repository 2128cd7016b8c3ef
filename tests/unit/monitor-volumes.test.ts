/** Volumes of kind host on this side: which there are, and what the place virtiofsd runs in allows. No virtual machine. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';
import { parseHostVolumes } from '../../stage1-kvm/volumes/host-volumes.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

t.test('volumes of a manifest', async (t) => {
  const appVolume = { name: 'own', kind: 'host', source: '/own', recursive: false };
  const manifest = {
    volumes: [
      { name: 'a', kind: 'host', source: '/a' }, { name: 'e', kind: 'empty', mode: '0755', uid: 0, gid: 0 }, { name: 'b', kind: 'host', source: '/b', readOnly: false }, { name: 'c', kind: 'host', source: '/c' },
    ],
    apps: [
      { name: 'x', app: { mountPoints: [{ name: 'm', path: '/m', readOnly: true }, { name: 'b', path: '/b', readOnly: true }] }, mounts: [{ volume: 'a', path: '/m' }, { volume: 'own', path: '/m', appVolume }] },
      { name: 'y', app: { mountPoints: [{ name: 'c', path: '/c', readOnly: true }] }, mounts: [{ volume: 'a', path: '/elsewhere' }] },
    ],
  };
  t.strictSame(parseHostVolumes(JSON.stringify(manifest)), [
    { tag: 'volume-1', name: 'a', app: null, source: '/a', readOnly: false, recursive: true },
    { tag: 'volume-2', name: 'b', app: null, source: '/b', readOnly: false, recursive: true },
    { tag: 'volume-3', name: 'c', app: null, source: '/c', readOnly: true, recursive: true },
    { tag: 'volume-4', name: 'own', app: 'x', source: '/own', readOnly: true, recursive: false },
  ], 'read-only when the volume says so, or says nothing and no app may write');
  for (const source of [undefined, 'relative', '/nul\0', 7]) {
    t.throws(() => parseHostVolumes(JSON.stringify({ volumes: [{ name: 'v', kind: 'host', source }] })), /^pod: volume "v": source for host volume must be absolute path$/);
  }
});

const program = await buildProgram({ entry: join(import.meta.dirname, '../helpers/share-place-program.ts'), output: join(buildCache(), 'share-place-program') });

function inPlace(script: string, source: string, { kind = 'directory', readOnly = false } = {}): { status: number | null; text: string } {
  const { status, stderr } = spawnSync(program.output, [script, source, kind, String(readOnly)], { encoding: 'utf8', timeout: 20_000 });
  return { status, text: stderr.replaceAll(/^\s+/g, '') };
}

t.test('where virtiofsd runs', async (t) => {
  const work = scratchDir(t, 'share-place');
  const source = join(work, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'inside'), 'text');
  writeFileSync(join(work, 'outside'), 'secret');

  const seen = inPlace('ls /tmp; grep -c NoNewPrivs:.1 /proc/self/status; grep " /tmp " /proc/self/mountinfo | tail -n 1 | cut -d" " -f6; ls /proc/self/ns | wc -l', source);
  t.match(seen.text, /^inside\n1\nrw,nosuid,nodev/);

  const script = 'cd /tmp; touch f; for m in 4755 2755 6711 u+s g+s; do chmod $m f && echo given $m; done; mkdir d && chmod g+s d && echo given d; chmod 1750 f && echo done';
  t.match(inPlace(script, source).text, /done\n$/);
  t.notMatch(inPlace(script, source).text, /given/);
  t.equal(statSync(join(source, 'f')).mode & 0o7777, 0o1750, 'files get no set-uid or set-gid bit');

  t.match(inPlace('echo x > /tmp/new', source, { readOnly: true }).text, /Read-only file system/);
  t.notOk(readdirSync(source).includes('new'));

  chmodSync(join(source, 'inside'), 0o666);
  t.equal(inPlace('ls -A /tmp; cat /tmp/file; echo more >> /tmp/file; touch /tmp/other 2>/dev/null || echo no', join(source, 'inside'), { kind: 'file' }).text, 'file\ntextno\n', 'a single file is alone, and nothing can be put beside it');
});

t.test('a link that takes the place of a source leads nowhere', async (t) => {
  const work = scratchDir(t, 'share-link');
  mkdirSync(join(work, 'elsewhere/below'), { recursive: true });
  symlinkSync('elsewhere', join(work, 'link'));
  for (const source of ['link', 'link/below']) {
    const { status, text } = inPlace('ls /tmp', join(work, source));
    t.equal(status, 99);
    t.match(text, /open .*\/link.*: ELOOP$/, source);
  }
});
