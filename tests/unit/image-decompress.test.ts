import { spawnSync } from 'node:child_process';
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { compressionOf } from '../../src/image/compression.ts';
import { decompress } from '../../src/image/decompress.ts';
import { compress } from '../helpers/make-image.ts';
import type { TestCompression } from '../helpers/make-image.ts';
import { seededRandom } from '../helpers/random.ts';

const random = seededRandom(7);
const DATA = Buffer.concat([random.bytes(300_000), Buffer.alloc(700_000, 'repetition '), random.bytes(1000)]);
const SKIPPABLE = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);

async function* inChunks(data: Uint8Array, sizes: () => number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; ) {
    const size = sizes();
    yield data.subarray(at, at + size);
    at += size;
  }
}

async function collect(data: Uint8Array, sizes = (): number => 65536): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of decompress(inChunks(data, sizes), 'f')) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

for (const compression of ['none', 'gzip', 'zstd', 'xz', 'bzip2'] satisfies TestCompression[]) {
  t.test(compression, async (t) => {
    const packed = compress(DATA, compression);
    t.equal(compressionOf(packed), compression);
    t.ok((await collect(packed)).equals(DATA));
    t.ok((await collect(packed, () => 1 + random.below(5000))).equals(DATA), 'any chunks');
    if (compression === 'none') return;
    t.ok((await collect(Buffer.concat([packed, packed]))).equals(Buffer.concat([DATA, DATA])), 'two streams behind each other');
    const expected = { code: 'BAD_IMAGE', message: new RegExp(`^f: truncated or damaged ${compression} data: .`) };
    for (const length of [packed.length - 1, packed.length >> 1, 20]) await t.rejects(collect(packed.subarray(0, length)), expected, `cut to ${length} bytes`);
    const flipped = Buffer.from(packed);
    flipped[packed.length >> 1] = (flipped[packed.length >> 1] ?? 0) ^ 0xff;
    await t.rejects(collect(flipped), expected, 'a flipped byte');
  });
}

t.test('short and empty data are not compressed', async (t) => {
  t.equal((await collect(Buffer.alloc(0))).length, 0);
  t.equal((await collect(Buffer.from('ab'), () => 1)).toString(), 'ab');
});

t.test('zstd frames in every arrangement', async (t) => {
  const [first, second] = [zstdCompressSync(DATA), spawnSync('zstd', ['-c', '--no-check'], { input: DATA.subarray(0, 5000) }).stdout];
  t.ok(second.length > 0, 'the zstd program is there');
  const empty = zstdCompressSync(Buffer.alloc(0));
  const arrangements: [string, Buffer[], Buffer[]][] = [
    ['skippable first', [SKIPPABLE, first], [DATA]],
    ['skippable between', [first, SKIPPABLE, second], [DATA, DATA.subarray(0, 5000)]],
    ['skippable last', [second, SKIPPABLE, SKIPPABLE], [DATA.subarray(0, 5000)]],
    ['empty frames', [empty, first, empty, second], [DATA, DATA.subarray(0, 5000)]],
  ];
  for (const [name, parts, expected] of arrangements) {
    for (const size of [1 << 20, 777]) t.ok((await collect(Buffer.concat(parts), () => size)).equals(Buffer.concat(expected)), `${name}, chunks of ${size}`);
  }
  await t.rejects(collect(Buffer.concat([first, Buffer.from('garbage')])), { code: 'BAD_IMAGE' });
});

t.test('an error of the source is passed on', async (t) => {
  async function* failing(packed: Buffer): AsyncGenerator<Uint8Array> {
    yield packed.subarray(0, 1000);
    throw new RktError('IO', 'the disk broke');
  }
  for (const compression of ['gzip', 'zstd', 'xz'] satisfies TestCompression[]) {
    await t.rejects(
      async () => {
        for await (const chunk of decompress(failing(compress(DATA, compression)), 'f')) void chunk;
      },
      { code: 'IO', message: 'the disk broke' },
      compression,
    );
  }
});

t.test('giving up early ends source and child', async (t) => {
  for (const compression of ['none', 'gzip', 'zstd', 'xz'] satisfies TestCompression[]) {
    let closed = false;
    async function* endless(packed: Buffer): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield packed;
      } finally {
        closed = true;
      }
    }
    for await (const chunk of decompress(endless(compress(DATA, compression)), 'f')) {
      t.ok(chunk.length > 0);
      break;
    }
    t.ok(closed, compression);
  }
});

t.test('a missing program is named', async (t) => {
  const path = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  t.teardown(() => (process.env['PATH'] = path));
  await t.rejects(collect(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 1, 2])), { code: 'MISSING_DEPENDENCY', message: /^f: the program xz/, hint: 'apt-get install xz-utils' });
});
