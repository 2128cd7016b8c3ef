/** Streams that are written by one side and read by another, and layers that are fetched side by side. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import type { LayerBlob } from '../../src/image/layered-image.ts';
import { prefetch, spoolName } from '../../src/image/prefetch.ts';
import { openSpool } from '../../src/image/spool.ts';
import { seededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

t.test('whatever the order of writing and reading, the bytes come out in order', async (t) => {
  const dir = scratchDir(t, 'spool');
  for (let seed = 0; seed < 60; seed++) {
    const random = seededRandom(seed);
    const path = join(dir, `s${seed}`);
    const keep = random.below(2) === 0;
    const spool = openSpool(path, { keep });
    const chunks = Array.from({ length: random.below(40) }, () => Buffer.from(random.bytes(1 + random.below(20_000))));
    const startAt = random.below(40);
    let reading: Promise<Buffer> | undefined;
    const read = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of spool.read()) {
        if (random.below(3) === 0) await turn();
        yield chunk;
      }
    };
    for (const [index, chunk] of chunks.entries()) {
      if (index === startAt) reading = collect(read());
      await spool.write(chunk);
      if (random.below(4) === 0) await turn();
    }
    spool.end();
    reading ??= collect(read());
    const expected = Buffer.concat(chunks);
    t.ok((await reading).equals(expected), `seed ${seed}`);
    if (keep && expected.length > 0) t.ok(readFileSync(path).equals(expected), `seed ${seed}: kept`);
    spool.close();
  }
});

t.test('a reader that is there from the beginning needs no file; a slow one slows the writer', async (t) => {
  const path = join(scratchDir(t, 'spool'), 's');
  const spool = openSpool(path, { keep: false });
  const reader = spool.read();
  const first = reader.next();
  let written = 0;
  const writing = (async () => {
    for (; written < 100; written++) await spool.write(Buffer.alloc(256 << 10, written));
    spool.end();
  })();
  await first;
  for (let i = 0; i < 20; i++) await turn();
  t.ok(written < 12, `${written} chunks were taken`);
  let sizeBytes = 256 << 10;
  for await (const chunk of reader) sizeBytes += chunk.length;
  await writing;
  t.equal(sizeBytes, 100 * (256 << 10));
  t.notOk(existsSync(path));
  spool.close();
});

t.test('a failure of the writer reaches the reader behind what was written', async (t) => {
  const spool = openSpool(join(scratchDir(t, 'spool'), 's'), { keep: false });
  await spool.write(Buffer.from('some'));
  spool.fail(new Error('the line broke'));
  const reader = spool.read();
  t.equal(String((await reader.next()).value), 'some');
  await t.rejects(reader.next(), { message: 'the line broke' });
  spool.close();
});

t.test('layers are fetched a few at a time, and given in order', async (t) => {
  const directory = scratchDir(t, 'prefetch');
  let active = 0;
  let most = 0;
  const contents = Array.from({ length: 9 }, (_, index) => Buffer.alloc(100_000, index));
  const layers = contents.map((content, index): LayerBlob => ({
    name: `layer ${index}`,
    sizeBytes: content.length,
    diffID: '',
    open: async function* () {
      most = Math.max(most, ++active);
      // The first is the slowest: others have to wait for their turn.
      for (let at = 0; at < content.length; at += 10_000) {
        for (let wait = 0; wait < 12 - index; wait++) await turn();
        yield content.subarray(at, at + 10_000);
      }
      active--;
    },
  }));
  const done: [string, number][] = [];
  const prefetched = prefetch(layers, { directory, parallel: 3, keep: false, onProgress: ({ name }, doneBytes) => void (doneBytes === 100_000 && done.push([name, doneBytes])) });
  for (const [index, layer] of prefetched.layers.entries()) t.ok((await collect(layer.open())).equals(contents[index] ?? Buffer.alloc(0)));
  await prefetched.close();
  t.equal(most, 3);
  t.equal(done.length, 9);
  t.ok(statSync(join(directory, spoolName(1))).size > 0, 'what came early waited in a file');
});

t.test('giving up ends what is under way', async (t) => {
  const aborted: number[] = [];
  const layers = [0, 1].map((index): LayerBlob => ({
    name: 'x',
    sizeBytes: 1e9,
    diffID: '',
    open: async function* (signal) {
      yield Buffer.alloc(10);
      await new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve()));
      aborted.push(index);
      signal?.throwIfAborted();
    },
  }));
  const prefetched = prefetch(layers, { directory: scratchDir(t, 'prefetch'), parallel: 2, keep: false });
  await turn();
  await prefetched.close();
  t.strictSame(aborted.sort(), [0, 1]);
});
