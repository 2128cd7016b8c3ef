/**
 * Broken archives, made from sound ones by seeded mutation: rendering ends with a file system that can be read back whole,
 * or with an RktError. Never with another error, a hang or memory without bounds.
 */
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { walk } from '../helpers/erofs-reader.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { aciLayer, render } from '../helpers/memory-disk.ts';
import { seededRandom, type SeededRandom } from '../helpers/random.ts';
import { base256, concat, END_OF_ARCHIVE, gnuLong, octal, paxData, sparseMember, tar, tarMember, withChecksum } from '../helpers/tar-writer.ts';

const BLOCK = 512;
const ROUNDS = 2000;
const MAX_ROUND_MS = 5000;
const limits = { totalBytes: 16 << 20, diskBytes: 64 << 20, metadataBytes: 8 << 20, entries: 10_000, lookups: 1_000_000 };

/** Archives that between them have everything the reader knows. */
function seeds(): Uint8Array[] {
  const text = (length: number): string => 'text '.repeat(length);
  return [
    tar([
      { path: 'd/', flag: '5' },
      { path: 'd/f', data: text(900), pax: [['path', 'd/renamed'], ['mtime', '1.5'], ['size', '4500'], ['SCHILY.xattr.user.a', 'b'], ['LIBARCHIVE.xattr.user.c', 'ZA==']] },
      { path: 'h', flag: '1', link: 'd/renamed' },
      { path: 'l', flag: '2', link: '../d' },
      { path: 'l/through', data: 'x' },
      { path: 'dev', flag: '3', device: { major: 1, minor: 2 } },
      { path: 'b', flag: '4', device: { major: 1, minor: 2 } },
      { path: 'p', flag: '6' },
      { path: 'd/.wh.x' },
      { path: 'd/.wh..wh..opq' },
      { path: 'global', flag: 'g', data: paxData([['mtime', '9']]) },
      { path: 'name', prefix: 'prefix' },
    ]),
    concat(gnuLong('K', 'target/'.repeat(40)), gnuLong('L', 'name/'.repeat(40)), tar([{ path: 'x', flag: '2', link: 'y', magic: 'gnu', mtime: -1 }])),
    concat(...(['old', '0.0', '0.1', '1.0'] as const).map((format) => sparseMember(format, { path: `s${format}`, size: 1 << 20, pieces: [10, 5000, 300_000, 400_000, 500_000, 600_000].map((offset) => ({ offset, data: new Uint8Array(700).fill(7) })) })), END_OF_ARCHIVE),
    tar([{ path: 'manifest', data: '{}' }, { path: 'rootfs', flag: '5' }, { path: 'rootfs/a', data: text(2000) }, { path: 'rootfs/b', flag: '1', link: 'rootfs/a' }]),
  ];
}

const DIGITS = [0x30, 0x31, 0x37, 0x38, 0x39, 0x2d, 0x2c, 0x2e, 0x20, 0x0a, 0x00, 0x3d, 0x2f, 0xff];
const FIELDS = [[100, 8], [108, 8], [116, 8], [124, 12], [136, 12], [329, 8], [337, 8], [386, 12], [398, 12], [483, 12]] as const;

function mutate(random: SeededRandom, archive: Uint8Array): Uint8Array {
  let mutated: Uint8Array = archive.slice();
  for (let count = 1 + random.below(4); count > 0 && mutated.length > BLOCK; count--) {
    const blocks = Math.floor(mutated.length / BLOCK);
    const block = random.below(blocks) * BLOCK;
    const anywhere = random.below(mutated.length);
    switch (random.below(10)) {
      case 0:
        mutated = mutated.slice(0, anywhere);
        break;
      case 1:
        mutated[anywhere] = random.below(256);
        break;
      case 2:
        mutated[anywhere] = random.pick(DIGITS);
        break;
      case 3: {
        const [offset, length] = random.pick(FIELDS);
        mutated.set(octal(random.below(2 ** 31), length), block + offset);
        break;
      }
      case 4: {
        const [offset, length] = random.pick(FIELDS);
        mutated.set(base256(BigInt.asIntN(64, BigInt(random.below(2 ** 32)) << BigInt(random.below(60))), length), block + offset);
        break;
      }
      case 5:
        mutated[block + 156] = random.pick([...'01234567xgLKSVDMN\0'].map((flag) => flag.charCodeAt(0)));
        break;
      case 6:
        mutated = concat(mutated.slice(0, block), mutated.slice(block + BLOCK));
        break;
      case 7:
        mutated = concat(mutated.slice(0, block + BLOCK), mutated.slice(block));
        break;
      case 8: {
        const other = random.below(blocks) * BLOCK;
        mutated.copyWithin(block, other, other + BLOCK);
        break;
      }
      case 9:
        mutated.set(new TextEncoder().encode(random.pick(['../', '/', './', '.wh.', '.wh..wh..opq', 'a/b/c', '..', 'rootfs', 'l/l/l'])), block);
        break;
    }
    // Most would end at the checksum and test nothing else.
    if (random.below(10) > 0) for (let at = 0; at + BLOCK <= mutated.length; at += BLOCK) fixHeader(mutated.subarray(at, at + BLOCK));
  }
  return mutated;
}

/** Gives what looks like a header the checksum it needs. */
function fixHeader(block: Uint8Array): void {
  const magic = String.fromCharCode(...block.subarray(257, 262));
  if (magic === 'ustar') withChecksum(block);
}

/** Renders one mutated archive; returns how it ended. */
async function attempt(random: SeededRandom, sources: readonly Uint8Array[]): Promise<string> {
  const archive = mutate(random, random.pick(sources));
  const below = random.below(3) === 0 ? [random.pick(sources)] : [];
  const layers = random.below(4) === 0 ? [aciLayer(archive)] : [...below, archive];
  try {
    const { root } = await render(layers, { limits });
    for (const { file } of walk(root)) if (file.sizeBytes < 1 << 22) file.read(0, file.sizeBytes);
    return 'rendered';
  } catch (error) {
    if (error instanceof RktError && error.code !== 'INTERNAL') return error.code;
    throw error;
  }
}

async function fuzz(seed: number, mayGoOn: (round: number) => boolean): Promise<Map<string, number>> {
  const sources = seeds();
  const ends = new Map<string, number>();
  for (let round = 0; mayGoOn(round); round++) {
    const random = seededRandom(seed + round);
    const started = performance.now();
    let end: string;
    try {
      end = await attempt(random, sources);
    } catch (error) {
      throw new Error(`seed ${seed + round}`, { cause: error });
    }
    if (performance.now() - started > MAX_ROUND_MS) throw new Error(`seed ${seed + round} took ${performance.now() - started} ms`);
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  return ends;
}

t.test('the archives that are mutated are sound', async (t) => {
  for (const archive of seeds().slice(0, 3)) t.ok((await render([archive])).geometry.inodes > 1);
  t.ok((await render([aciLayer(seeds()[3] ?? END_OF_ARCHIVE)])).geometry.inodes > 1);
});

t.test('mutated archives', async (t) => {
  const ends = await fuzz(1, (round) => round < ROUNDS);
  t.comment(JSON.stringify([...ends]));
  // If nearly all ended in the same way the mutations would not reach the rest of the code.
  for (const end of ['rendered', 'BAD_IMAGE', 'LIMIT', 'UNSUPPORTED']) t.ok((ends.get(end) ?? 0) > 0, `${end}: ${ends.get(end) ?? 0}`);
});

fuzzForLong('mutated archives', fuzz);

t.test('bytes that are no archive at all', async (t) => {
  const random = seededRandom(23);
  for (let round = 0; round < 300; round++) {
    const noise = random.bytes(random.below(3000));
    if (noise.length === 0) continue;
    await t.rejects(render([noise]), { code: 'BAD_IMAGE' });
  }
  await t.rejects(render([concat(tarMember({ path: 'x', data: 'y' }), random.bytes(700))]), { code: 'BAD_IMAGE' });
});
