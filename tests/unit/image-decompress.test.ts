import { spawnSync } from 'node:child_process';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { compressionOf } from '../../src/image/compression.ts';
import { decompress } from '../../src/image/decompress.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { compress } from '../helpers/make-image.ts';
import type { TestCompression } from '../helpers/make-image.ts';
import { seededRandom } from '../helpers/random.ts';
import type { SeededRandom } from '../helpers/random.ts';

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

const TEXT = Buffer.from('text '.repeat(300));
/** What is in these streams fits into little memory; whatever a change of them gives has to, too. */
const OUTPUT_MAX_BYTES = 8 << 20;
const MAX_ROUND_MS = 5000;

function framings(): Buffer[] {
  const [gzip, zstd] = [gzipSync(TEXT), zstdCompressSync(TEXT)];
  const unchecked = spawnSync('zstd', ['-c', '--no-check', '--no-content-size'], { input: TEXT }).stdout;
  return [gzip, zstd, unchecked, Buffer.concat([gzip, gzip]), Buffer.concat([SKIPPABLE, zstd, zstdCompressSync(Buffer.alloc(0)), SKIPPABLE, unchecked]), gzipSync(random.bytes(2000)), zstdCompressSync(random.bytes(2000))];
}

function mutated(random: SeededRandom, seed: Buffer, others: readonly Buffer[]): Buffer {
  let bytes = Buffer.from(seed);
  for (let count = 1 + random.below(3); count > 0 && bytes.length > 0; count--) {
    // Headers of frames stand at the beginning.
    const at = random.below(random.below(2) === 0 ? bytes.length : Math.min(16, bytes.length));
    switch (random.below(5)) {
      case 0:
        bytes[at] = random.below(256);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
        break;
      case 2:
        bytes = bytes.subarray(0, at);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), random.pick(others), bytes.subarray(at)]);
        break;
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), random.bytes(random.below(9)), bytes.subarray(at + random.below(9))]);
    }
  }
  return bytes;
}

/** gzip is judged beside Node's own way to read all of it at once. */
async function fuzz(seed: number, mayGoOn: (round: number) => boolean): Promise<Map<string, number>> {
  const seeds = framings();
  const ends = new Map<string, number>();
  for (let round = 0; mayGoOn(round); round++) {
    const random = seededRandom(seed + round);
    const input = mutated(random, random.pick(seeds), seeds);
    const format = compressionOf(input);
    // The programs for the others are not rkt's.
    if (format === 'xz' || format === 'bzip2') continue;
    const startMs = performance.now();
    let end = `${format}: read`;
    try {
      let outputBytes = 0;
      const output: Uint8Array[] = [];
      for await (const chunk of decompress(inChunks(input, () => 1 + random.below(3000)), 'f')) {
        outputBytes += chunk.length;
        if (outputBytes > OUTPUT_MAX_BYTES) throw new Error(`more than ${OUTPUT_MAX_BYTES} bytes`);
        output.push(chunk);
      }
      if (format === 'gzip' && !Buffer.concat(output).equals(gunzipSync(input))) throw new Error('not what it is');
    } catch (error) {
      if (!(error instanceof RktError) || error.code !== 'BAD_IMAGE') throw new Error(`seed ${seed + round}: ${input.toString('base64')}`, { cause: error });
      end = `${format}: refused`;
    }
    if (performance.now() - startMs > MAX_ROUND_MS) throw new Error(`seed ${seed + round} took ${performance.now() - startMs} ms`);
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  return ends;
}

t.test('mutated gzip and zstd', async (t) => {
  const ends = await fuzz(1, (round) => round < 600);
  t.comment(JSON.stringify([...ends].sort()));
  for (const end of ['gzip: read', 'gzip: refused', 'zstd: read', 'zstd: refused']) t.ok((ends.get(end) ?? 0) > 5, `${end}: ${ends.get(end) ?? 0}`);
});

fuzzForLong('mutated gzip and zstd', fuzz);
