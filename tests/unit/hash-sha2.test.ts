import { createHash } from 'node:crypto';
import t from 'tap';
import { createSha256, createSha384, createSha512, sha256, sha384, sha512, type Hash, type Hasher } from '../../src/hash/sha2.ts';
import { digestHex } from '../../src/store/digest.ts';
import { toHex } from '../../src/tpm/bytes.ts';
import { seededRandom } from '../helpers/random.ts';

const HASHES: readonly { name: string; once: Hash; pieces(): Hasher; blockBytes: number }[] = [
  { name: 'sha256', once: sha256, pieces: createSha256, blockBytes: 64 },
  { name: 'sha384', once: sha384, pieces: createSha384, blockBytes: 128 },
  { name: 'sha512', once: sha512, pieces: createSha512, blockBytes: 128 },
];

for (const { name, once, pieces, blockBytes } of HASHES) {
  const judge = (data: Uint8Array): string => createHash(name).update(data).digest('hex');

  t.test(`${name} of every length around its blocks`, (t) => {
    const random = seededRandom(1);
    for (let length = 0; length <= 3 * blockBytes; length++) {
      const data = random.bytes(length);
      if (toHex(once(data)) !== judge(data)) t.fail(`${length} bytes`);
    }
    t.end();
  });

  t.test(`${name} in pieces`, (t) => {
    const random = seededRandom(2);
    for (let round = 0; round < 200; round++) {
      const data = random.bytes(random.below(2000));
      const hasher = pieces();
      for (let at = 0; at < data.length;) {
        const end = Math.min(data.length, at + random.below(300));
        hasher.update(data.subarray(at, end));
        at = end;
      }
      if (toHex(hasher.digest()) !== judge(data)) t.fail(`round ${round}`);
    }
    t.end();
  });

  t.test(`${name} of words that carry`, (t) => {
    const data = new Uint8Array(100_000).fill(0xff);
    t.equal(toHex(once(data)), judge(data));
    t.end();
  });
}

t.test('digests of documents, short and long', async (t) => {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    for (const length of [0, 1000, 65_536, 65_537, 200_000]) {
      const text = 'ü'.repeat(length / 2);
      const expected = createHash(algorithm).update(text).digest('hex');
      t.equal(digestHex(algorithm, text), expected);
      t.equal(digestHex(algorithm, Buffer.from(text)), expected);
    }
  }
});
