/** TPMT_PUBLIC: the public part of a key with everything that decides what the key may do (TPM 2.0 Library, part 2, 12.2.4). */
import { ByteReader, ByteWriter, concatBytes } from './bytes.ts';
import { TPM_ALG } from './constants.ts';
import { HASH_ALGORITHMS, hashNameOf, type HashName } from './hash-algorithms.ts';
import type { Hash } from '../hash/sha2.ts';

export const TPMA_OBJECT = {
  fixedTpm: 0x00000002,
  fixedParent: 0x00000010,
  sensitiveDataOrigin: 0x00000020,
  userWithAuth: 0x00000040,
  noDictionaryAttack: 0x00000400,
  restricted: 0x00010000,
  decrypt: 0x00020000,
  sign: 0x00040000,
} as const;

const CURVES = { 'P-256': { id: 0x0003, sizeBytes: 32 }, 'P-384': { id: 0x0004, sizeBytes: 48 }, 'P-521': { id: 0x0005, sizeBytes: 66 } } as const;
export type CurveName = keyof typeof CURVES;
const CURVE_NAMES = Object.keys(CURVES) as CurveName[];

export type SchemeName = 'rsassa' | 'rsapss' | 'ecdsa';
const SCHEME_IDS: Readonly<Record<SchemeName, number>> = { rsassa: TPM_ALG.rsassa, rsapss: TPM_ALG.rsapss, ecdsa: TPM_ALG.ecdsa };
const SCHEME_NAMES = Object.keys(SCHEME_IDS) as SchemeName[];

export interface SigningScheme {
  algorithm: SchemeName;
  hash: HashName;
}

export type PublicKey =
  | { type: 'rsa'; bits: number; modulus: Uint8Array; exponent: number }
  /** Coordinates have the full length of the curve. */
  | { type: 'ecc'; curve: CurveName; x: Uint8Array; y: Uint8Array };

export interface PublicArea {
  nameAlgorithm: HashName;
  attributes: number;
  authPolicy: Uint8Array;
  /** Null: the key signs with whatever it is told, or not at all. */
  scheme: SigningScheme | null;
  key: PublicKey;
}

const DEFAULT_EXPONENT = 65537;

/** @throws RktError BAD_INPUT */
export function parsePublicArea(bytes: Uint8Array): PublicArea {
  const reader = new ByteReader(bytes, 'big', 'TPM public area');
  const type = reader.u16();
  const nameAlgorithm = readHash(reader);
  const attributes = reader.u32();
  const authPolicy = reader.sized16();
  skipSymmetric(reader);
  const scheme = readScheme(reader);
  const key = readKey(reader, type);
  reader.expectEnd();
  return { nameAlgorithm, attributes, authPolicy, scheme, key };
}

function readKey(reader: ByteReader, type: number): PublicKey {
  if (type === TPM_ALG.rsa) return readRsa(reader);
  if (type === TPM_ALG.ecc) return readEcc(reader);
  return reader.fail(`key of type 0x${type.toString(16)}, expected RSA or ECC`);
}

function readHash(reader: ByteReader): HashName {
  const id = reader.u16();
  return hashNameOf(id) ?? reader.fail(`unknown hash algorithm 0x${id.toString(16)}`);
}

function skipSymmetric(reader: ByteReader): void {
  if (reader.u16() !== TPM_ALG.null) reader.take(4);
}

function readScheme(reader: ByteReader): SigningScheme | null {
  const id = reader.u16();
  if (id === TPM_ALG.null || id === TPM_ALG.rsaes) return null;
  const hash = readHash(reader);
  if (id === TPM_ALG.ecdaa) reader.u16();
  const algorithm = SCHEME_NAMES.find((name) => SCHEME_IDS[name] === id);
  return algorithm === undefined ? null : { algorithm, hash };
}

function readRsa(reader: ByteReader): PublicKey {
  const bits = reader.u16();
  const exponent = reader.u32();
  const modulus = reader.sized16();
  if (modulus.length * 8 !== bits || ((modulus[0] ?? 0) & 0x80) === 0) reader.fail(`modulus of ${modulus.length} bytes for an RSA key of ${bits} bits`);
  return { type: 'rsa', bits, modulus, exponent: exponent === 0 ? DEFAULT_EXPONENT : exponent };
}

function readEcc(reader: ByteReader): PublicKey {
  const id = reader.u16();
  const curve = CURVE_NAMES.find((name) => CURVES[name].id === id) ?? reader.fail(`unknown curve 0x${id.toString(16)}`);
  // The key derivation scheme; only its hash follows.
  if (reader.u16() !== TPM_ALG.null) reader.u16();
  return { type: 'ecc', curve, x: readCoordinate(reader, curve), y: readCoordinate(reader, curve) };
}

/** Leading zeros may be left out. */
function readCoordinate(reader: ByteReader, curve: CurveName): Uint8Array {
  const bytes = reader.sized16();
  const { sizeBytes } = CURVES[curve];
  if (bytes.length > sizeBytes) reader.fail(`coordinate of ${bytes.length} bytes on ${curve}`);
  return leftPadded(bytes, sizeBytes);
}

export function leftPadded(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  return concatBytes(new Uint8Array(sizeBytes - bytes.length), bytes);
}

export function curveSizeBytes(curve: CurveName): number {
  return CURVES[curve].sizeBytes;
}

/** An object's name: the algorithm and the digest of its public area (TPM 2.0 Library, part 1, 16). */
export function nameOf(publicArea: Uint8Array, nameAlgorithm: HashName, hash: Hash): Uint8Array {
  return new ByteWriter('big').u16(HASH_ALGORITHMS[nameAlgorithm].id).raw(hash(publicArea)).bytes;
}

export type AttestationKeyType = 'ecc-p256' | 'rsa-2048' | 'rsa-3072';

/** A key that signs nothing but what the TPM itself says, never leaves it, and cannot be locked by wrong passwords. */
const ATTESTATION_KEY_ATTRIBUTES = TPMA_OBJECT.fixedTpm | TPMA_OBJECT.fixedParent | TPMA_OBJECT.sensitiveDataOrigin
  | TPMA_OBJECT.userWithAuth | TPMA_OBJECT.noDictionaryAttack | TPMA_OBJECT.restricted | TPMA_OBJECT.sign;

/** TPMT_PUBLIC of an attestation key, to be made as a primary key or below one. Signs with SHA-256. */
export function attestationKeyTemplate(type: AttestationKeyType): Uint8Array<ArrayBuffer> {
  const isRsa = type !== 'ecc-p256';
  const sha256 = HASH_ALGORITHMS.sha256.id;
  const template = new ByteWriter('big').u16(isRsa ? TPM_ALG.rsa : TPM_ALG.ecc).u16(sha256).u32(ATTESTATION_KEY_ATTRIBUTES).sized16(new Uint8Array(0)).u16(TPM_ALG.null);
  if (!isRsa) return template.u16(TPM_ALG.ecdsa).u16(sha256).u16(CURVES['P-256'].id).u16(TPM_ALG.null).sized16(new Uint8Array(0)).sized16(new Uint8Array(0)).bytes;
  return template.u16(TPM_ALG.rsassa).u16(sha256).u16(type === 'rsa-2048' ? 2048 : 3072).u32(0).sized16(new Uint8Array(0)).bytes;
}
