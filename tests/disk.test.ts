/** The app's disk between host and guest: what the guest may not change, and what it must not read. */
import { closeSync, openSync, readFileSync, readdirSync, readSync, chmodSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxMembers, makeOciLayout } from './helpers/make-image.ts';
import { makeHost } from './helpers/rkt.ts';

const SECRET_SIZE_BYTES = 64 * 1024;
const MARK = 'the content whose change must be seen ';

t.test('a flipped bit in the disk makes the guest fail to read, never read wrong bytes', async (t) => {
  const host = makeHost('flip');
  t.teardown(host.close);
  const content = MARK.repeat(Math.ceil(SECRET_SIZE_BYTES / MARK.length));
  const image = makeOciLayout(join(host.workDir, 'image.oci'), { layers: [[...busyboxMembers(), { path: 'data', content }]] });
  const read = ['run', '--net=none', image, '--exec', '/bin/sh', '--', '-c', 'sha256sum < /data; cat /data | wc -c; cat /data > /dev/null && echo readable'];
  const good = await host.rkt(read);
  t.match(good.stdout.toString(), /^readable$/m, good.stderr);

  const trees = readdirSync(join(host.dataDir, 'cas/tree'));
  t.equal(trees.length, 1);
  const disk = join(host.dataDir, 'cas/tree', trees[0] ?? '', 'disk');
  const offset = readFileSync(disk).indexOf(MARK);
  t.ok(offset > 0, 'the content is on the disk as it is');
  chmodSync(disk, 0o600);
  const fd = openSync(disk, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset + 5000);
  byte[0] = (byte[0] ?? 0) ^ 0x10;
  writeSync(fd, byte, 0, 1, offset + 5000);
  closeSync(fd);

  const bad = await host.rkt(read);
  t.notMatch(bad.stdout.toString(), /^readable$/m);
  t.match(bad.stderr, /I\/O error|Input\/output error/, bad.stdout.toString());
});

t.test('two pods of one image do not see each other’s writes, and the image stays as it is', async (t) => {
  const host = makeHost('writes');
  t.teardown(host.close);
  const image = makeOciLayout(join(host.workDir, 'image.oci'));
  const write = ['run', '--net=none', image, '--exec', '/bin/sh', '--', '-c', 'test ! -e /new || exit 3; echo x > /new; rm /bin/true; echo broken > /etc/passwd; sync; exec 2>/dev/null; ls /bin/true'];
  t.equal((await host.rkt(write)).status, 1);
  const disk = join(host.dataDir, 'cas/tree', readdirSync(join(host.dataDir, 'cas/tree'))[0] ?? '', 'disk');
  const before = readFileSync(disk);
  t.equal((await host.rkt(write)).status, 1);
  t.ok(readFileSync(disk).equals(before));
});
