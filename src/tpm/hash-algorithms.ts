/** Hash algorithms as TPMs and event logs number them (TPM_ALG_ID, TCG Algorithm Registry). */
import { sha256, sha384, type Hash } from '../hash/sha2.ts';

export const HASH_ALGORITHMS = {
  sha1: { id: 0x0004, sizeBytes: 20 },
  sha256: { id: 0x000b, sizeBytes: 32 },
  sha384: { id: 0x000c, sizeBytes: 48 },
  sha512: { id: 0x000d, sizeBytes: 64 },
  sm3_256: { id: 0x0012, sizeBytes: 32 },
} as const;

export type HashName = keyof typeof HASH_ALGORITHMS;

const NAME_OF_ID = new Map<number, HashName>(Object.entries(HASH_ALGORITHMS).map(([name, { id }]) => [id, name as HashName]));

export function hashNameOf(algorithmId: number): HashName | undefined {
  return NAME_OF_ID.get(algorithmId);
}

/** The banks of a pod's TPM. Both are extended with every event: a bank left out could be filled by anybody. */
export const POD_BANKS = ['sha256', 'sha384'] as const;
export type PodBank = (typeof POD_BANKS)[number];

export function isPodBank(name: string): name is PodBank {
  return POD_BANKS.some((bank) => bank === name);
}

export interface TaggedDigest {
  algorithm: HashName;
  digest: Uint8Array;
}

/** How banks are hashed; where a platform has faster ones they take the place of these. */
export type BankHashes = Readonly<Record<PodBank, Hash>>;
export const PORTABLE_HASHES: BankHashes = { sha256, sha384 };

/** One digest a bank, in their order. */
export function digestsOf(data: Uint8Array, hashes: BankHashes = PORTABLE_HASHES): TaggedDigest[] {
  return POD_BANKS.map((algorithm) => ({ algorithm, digest: hashes[algorithm](data) }));
}
