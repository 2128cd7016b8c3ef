/** Signatures as cosign makes them, and a registry in memory that keeps them. */
import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject, KeyPairKeyObjectResult } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../../src/error.ts';
import type { RegistryAccess } from '../../src/image/verification.ts';
import type { Descriptor } from '../../src/schema/oci.ts';

export interface MemoryRegistry {
  access: RegistryAccess;
  /** Under a tag, or under its digest alone; gives the digest. */
  putManifest(manifest: object, tag?: string): string;
  putBlob(bytes: Uint8Array): { digest: string; size: number };
  /** Makes a manifest a referrer of another. */
  refer(subjectDigest: string, referrerDigest: string, artifactType: string): void;
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export function memoryRegistry(host = 'registry.example.com', repository = 'team/app'): MemoryRegistry {
  const manifests = new Map<string, Uint8Array>();
  const blobs = new Map<string, Uint8Array>();
  const referrers = new Map<string, Descriptor[]>();
  const found = <T>(value: T | undefined, what: string): T => {
    if (value === undefined) throw new RktError('NOT_FOUND', `${what}: bad HTTP status code: 404`);
    return value;
  };
  return {
    access: {
      host,
      repository,
      getManifest: async (reference) => {
        const bytes = found(manifests.get(reference), reference);
        return { bytes, digest: digestOf(bytes), mediaType: 'application/vnd.oci.image.manifest.v1+json' };
      },
      getBlob: async ({ digest }, limitBytes) => {
        const bytes = found(blobs.get(digest), digest);
        if (bytes.length > limitBytes) throw new RktError('LIMIT', `${digest}: too large`);
        return bytes;
      },
      listReferrers: async (digest) => referrers.get(digest) ?? [],
    },
    putManifest: (manifest, tag) => {
      const bytes = Buffer.from(JSON.stringify(manifest));
      const digest = digestOf(bytes);
      manifests.set(digest, bytes);
      if (tag !== undefined) manifests.set(tag, bytes);
      return digest;
    },
    putBlob: (bytes) => {
      blobs.set(digestOf(bytes), bytes);
      return { digest: digestOf(bytes), size: bytes.length };
    },
    refer: (subjectDigest, referrerDigest, artifactType) => {
      const descriptor = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: referrerDigest, size: 1, artifactType };
      referrers.set(subjectDigest, [...(referrers.get(subjectDigest) ?? []), descriptor]);
    },
  };
}

const PAYLOAD_TYPE = 'application/vnd.dev.cosign.simplesigning.v1+json';
export const COSIGN_ARTIFACT = 'application/vnd.dev.cosign.artifact.sig.v1+json';
export const BUNDLE_ARTIFACT = 'application/vnd.dev.sigstore.bundle.v0.3+json';

export interface SignedPayload {
  payload: Buffer;
  annotations: Record<string, string>;
}

/** The payload of a signature. */
export function cosignPayload(manifestDigest: string, reference: string): Buffer {
  return Buffer.from(JSON.stringify({ critical: { identity: { 'docker-reference': reference }, image: { 'docker-manifest-digest': manifestDigest }, type: 'cosign container image signature' }, optional: null }));
}

export function signPayload(payload: Buffer, key: KeyObject): SignedPayload {
  return { payload, annotations: { 'dev.cosignproject.cosign/signature': sign('sha256', payload, key).toString('base64') } };
}

/** A manifest with one layer for each signature, as cosign puts it at `sha256-….sig`. */
export function signatureManifest(registry: MemoryRegistry, signatures: readonly SignedPayload[]): object {
  const layers = signatures.map(({ payload, annotations }) => ({ mediaType: PAYLOAD_TYPE, ...registry.putBlob(payload), annotations }));
  return { schemaVersion: 2, config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...registry.putBlob(Buffer.from('{}')) }, layers };
}

export function attachByTag(registry: MemoryRegistry, manifestDigest: string, signatures: readonly SignedPayload[]): void {
  registry.putManifest(signatureManifest(registry, signatures), `${manifestDigest.replace(':', '-')}.sig`);
}

export function attachBundle(registry: MemoryRegistry, manifestDigest: string, bundle: object): void {
  const layer = { mediaType: BUNDLE_ARTIFACT, ...registry.putBlob(Buffer.from(JSON.stringify(bundle))) };
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', ...registry.putBlob(Buffer.from('{}')) };
  registry.refer(manifestDigest, registry.putManifest({ schemaVersion: 2, config, layers: [layer] }), BUNDLE_ARTIFACT);
}

export function pem(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'pem' }) as string;
}

export function ecKeys(): KeyPairKeyObjectResult {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

export interface CertificateOptions {
  subjectAltName?: string;
  issuer?: string;
  usage?: string;
  more?: readonly string[];
}

export interface Authority {
  rootPem: string;
  intermediatePem: string;
  /** A certificate for the key, of the intermediate authority, valid for one day. */
  issue(key: KeyObject, options?: CertificateOptions): string;
}

/** A root, and below it an intermediate that issues certificates of people, made by openssl. */
export function makeAuthority(directory: string): Authority {
  const file = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });
  const text = (name: string): string => readFileSync(file(name), 'utf8');
  const extensions = (...lines: string[]): string => {
    writeFileSync(file('extensions'), `${lines.join('\n')}\n`);
    return file('extensions');
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const issued = (request: string, by: string, extensionFile: string): void => openssl('x509', '-req', '-in', file(`${request}.csr`), '-CA', file(`${by}.pem`), '-CAkey', file(`${by}.key`), '-set_serial', String(Math.floor(Math.random() * 2 ** 40)), '-days', '1', '-extfile', extensionFile, '-out', file(`${request}.pem`));
  openssl('req', '-x509', ...newKey, '-keyout', file('root.key'), '-out', file('root.pem'), '-subj', '/O=test/CN=root', '-days', '1', '-addext', 'keyUsage=critical,keyCertSign');
  openssl('req', ...newKey, '-keyout', file('intermediate.key'), '-out', file('intermediate.csr'), '-subj', '/O=test/CN=intermediate');
  issued('intermediate', 'root', extensions('basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign', 'extendedKeyUsage=codeSigning'));
  // A request needs a private key; the certificate is made for another one.
  openssl('req', ...newKey, '-keyout', file('throwaway.key'), '-out', file('leaf.csr'), '-subj', '/');
  return {
    rootPem: text('root.pem'),
    intermediatePem: text('intermediate.pem'),
    issue: (key, { subjectAltName = 'email:signer@example.com', issuer = 'https://accounts.example.com', usage = 'codeSigning', more = [] } = {}) => {
      writeFileSync(file('leaf.pub'), pem(key));
      const extensionFile = extensions('keyUsage=critical,digitalSignature', ...(usage === '' ? [] : [`extendedKeyUsage=${usage}`]), `subjectAltName=critical,${subjectAltName}`, 'authorityKeyIdentifier=keyid', `1.3.6.1.4.1.57264.1.1=DER:${Buffer.from(issuer).toString('hex')}`, ...more);
      openssl('x509', '-req', '-in', file('leaf.csr'), '-CA', file('intermediate.pem'), '-CAkey', file('intermediate.key'), '-force_pubkey', file('leaf.pub'), '-set_serial', String(Math.floor(Math.random() * 2 ** 40)), '-days', '1', '-extfile', extensionFile, '-out', file('leaf.pem'));
      return text('leaf.pem');
    },
  };
}
