/** Digests of blocks with more of them than memory may hold. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { BlockDigests, DIGEST_BYTES } from '../../src/rootfs/block-digests.ts';
import { renderDisk } from '../../src/rootfs/index.ts';
import { digestScratch, sha256 } from '../../src/store/disk-file.ts';
import { MemoryDisk } from '../helpers/memory-disk.ts';
import { seededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { stream, tar } from '../helpers/tar-writer.ts';

const ZERO = new Uint8Array(DIGEST_BYTES).fill(0xee);
const BLOCKS = 40_000;

t.test('what went to the scratch file comes back; what was never set costs nothing', (t) => {
  const directory = scratchDir(t, 'digests');
  const file = digestScratch(join(directory, 'digests'));
  let written = 0;
  const digests = new BlockDigests(ZERO, { scratch: { write: (offset, data) => (written++, file.write(offset, data)), read: file.read }, pagesInMemory: 2 });
  const model = new Map<number, Uint8Array>();
  const random = seededRandom(3);
  for (let round = 0; round < 20_000; round++) {
    const block = random.below(BLOCKS / 2);
    if (random.below(50) === 0) {
      const count = random.below(6000);
      digests.clear(block, count);
      for (let i = 0; i < count; i++) model.delete(block + i);
    } else {
      const digest = random.bytes(DIGEST_BYTES);
      digests.set(block, digest);
      model.set(block, digest);
    }
  }
  t.ok(written > 100, `${written} pages were put away`);
  t.strictSame(readdirSync(directory), [], 'the file has no name');
  let differing = 0;
  for (let first = 0; first < BLOCKS; first += 128) {
    const slice = digests.slice(first, 128);
    for (let i = 0; i < 128; i++) if (!Buffer.from(slice.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES)).equals(model.get(first + i) ?? ZERO)) differing++;
  }
  t.equal(differing, 0);
  t.notOk(digests.isUntouched(0));
  t.ok(digests.isUntouched(BLOCKS - 1));
  file.close();
  t.end();
});

t.test('a disk is the same with and without; a small one makes no file', async (t) => {
  const random = seededRandom(4);
  const archive = tar([{ path: 'a', data: random.bytes(3 << 20) }, { path: 'b', data: random.bytes(100) }]);
  const directory = scratchDir(t, 'digests');
  const scratch = digestScratch(join(directory, 'digests'));
  const render = async (more: object): Promise<string> => (await renderDisk([{ kind: 'oci', name: 'x', tar: stream(archive) }], new MemoryDisk(), { sha256, ...more })).rootHashHex;
  t.equal(await render({ scratch }), await render({}));
  t.notOk(existsSync(join(directory, 'digests')));
  scratch.close();
});

t.test('a scratch file that cannot be made or ends too early is told', (t) => {
  const scratch = digestScratch('/nonexistent/digests');
  t.throws(() => scratch.write(0, ZERO), { name: 'RktError', code: 'NOT_FOUND', message: 'cannot use the temporary file /nonexistent/digests: no such file or directory' });
  const short = digestScratch(join(scratchDir(t, 'digests'), 'digests'));
  short.write(0, ZERO);
  t.throws(() => short.read(0, new Uint8Array(2 * DIGEST_BYTES)), { code: 'IO', message: /ends too early$/ });
  short.close();
  t.end();
});
