/**
 * Signatures kept beside a registry: registries.d (containers-registries.d(5)) tells where, `REPOSITORY@ALGORITHM=DIGEST/
 * signature-N` below that place holds them (containers/image, signature-protocols.md).
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { RktError } from '../../error.ts';
import { booleanValue, mapOf, objectOf, optional, stringValue } from '../../schema/check.ts';
import type { Place } from '../../schema/check.ts';
import { errnoName, fileError } from '../../store/fs-error.ts';
import { scopesOf } from '../trust/image-identity.ts';
import type { ImageIdentity } from '../trust/image-identity.ts';
import type { FetchDocument } from '../verification.ts';
import { findConfig, readConfigBytes } from './config-files.ts';

const SIGNATURE_LIMIT_BYTES = 4 << 20;
const MAX_SIGNATURES = 128;
const ROOT_STORE = '/var/lib/containers/sigstore';

/** What is configured for one registry, namespace or image. `sigstore` is the older name of `lookaside`. */
interface Section {
  lookaside?: string;
  sigstore?: string;
  'lookaside-staging'?: string;
  'sigstore-staging'?: string;
  'use-sigstore-attachments'?: boolean;
}

interface RegistriesDocument {
  'default-docker'?: Section;
  docker?: Record<string, Section>;
}

const section = objectOf<Section>({
  lookaside: optional(stringValue),
  sigstore: optional(stringValue),
  'lookaside-staging': optional(stringValue),
  'sigstore-staging': optional(stringValue),
  'use-sigstore-attachments': optional(booleanValue),
});

const registriesDocument = objectOf<RegistriesDocument>({ 'default-docker': optional(section), docker: optional(mapOf(section)) });

/** The place for an image's signatures, most specific scope first. Throws RktError BAD_INPUT naming the file. */
export async function lookasideOf(identity: ImageIdentity, configDirs: readonly string[]): Promise<URL> {
  const directory = findConfig('registries.d', configDirs);
  const { fallback, scopes } = await readRegistriesDirectory(directory);
  const sections = [...scopesOf(identity).map((scope) => scopes.get(scope)), fallback];
  const text = sections.map((candidate) => candidate?.lookaside ?? candidate?.sigstore).find((place) => place !== undefined && place !== '');
  const isRoot = process.getuid?.() === 0;
  if (text === undefined) return pathToFileURL(isRoot ? ROOT_STORE : join(homedir(), '.local/share/containers/sigstore'));
  if (!URL.canParse(text) || !['file:', 'http:', 'https:'].includes(new URL(text).protocol)) throw new RktError('BAD_INPUT', `${directory ?? ''}: lookaside: expected a file, http or https URL, found ${JSON.stringify(text)}`);
  return new URL(text);
}

async function readRegistriesDirectory(directory: string | undefined): Promise<{ fallback: Section | undefined; scopes: Map<string, Section> }> {
  let fallback: { section: Section; path: string } | undefined;
  const scopes = new Map<string, { section: Section; path: string }>();
  for (const path of yamlFiles(directory)) {
    const document = await readRegistriesFile(path);
    if (document['default-docker'] !== undefined) {
      if (fallback !== undefined) throw new RktError('BAD_INPUT', `${path}: default-docker is already set in ${fallback.path}`);
      fallback = { section: document['default-docker'], path };
    }
    for (const [scope, found] of Object.entries(document.docker ?? {})) {
      const earlier = scopes.get(scope);
      if (earlier !== undefined) throw new RktError('BAD_INPUT', `${path}: docker.${scope} is already set in ${earlier.path}`);
      scopes.set(scope, { section: found, path });
    }
  }
  return { fallback: fallback?.section, scopes: new Map([...scopes].map(([scope, found]) => [scope, found.section])) };
}

function yamlFiles(directory: string | undefined): string[] {
  if (directory === undefined) return [];
  try {
    return readdirSync(directory).filter((name) => name.endsWith('.yaml')).sort().map((name) => join(directory, name));
  } catch (error) {
    throw fileError(error, `cannot read ${directory}`);
  }
}

async function readRegistriesFile(path: string): Promise<RegistriesDocument> {
  const { parse } = await import('yaml');
  const place: Place = { origin: path, path: '', code: 'BAD_INPUT' };
  let value: unknown;
  try {
    value = parse(Buffer.from(readConfigBytes(path)).toString('utf8'), { maxAliasCount: 0, uniqueKeys: true });
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${path}: not valid YAML: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  return value === null || value === undefined ? {} : registriesDocument(value, place);
}

/** The signatures of a manifest, oldest first. Throws RktError, but not because there are none. */
export async function* lookasideSignatures(base: URL, image: { identity: ImageIdentity; manifestDigest: string }, fetchDocument: FetchDocument): AsyncGenerator<Uint8Array, void, undefined> {
  const repository = image.identity.name.slice(image.identity.name.indexOf('/') + 1);
  for (let number = 1; number <= MAX_SIGNATURES; number++) {
    const url = new URL(base);
    url.pathname = `${base.pathname.replace(/\/$/, '')}/${repository}@${image.manifestDigest.replace(':', '=')}/signature-${number}`;
    const signature = url.protocol === 'file:' ? readSignatureFile(fileURLToPath(url)) : await fetchSignature(url, fetchDocument);
    if (signature === undefined) return;
    yield signature;
  }
}

function readSignatureFile(path: string): Uint8Array | undefined {
  try {
    if (statSync(path).size > SIGNATURE_LIMIT_BYTES) throw new RktError('LIMIT', `${path}: larger than ${SIGNATURE_LIMIT_BYTES} bytes`);
    return readFileSync(path);
  } catch (error) {
    if (errnoName(error) === 'ENOENT' || errnoName(error) === 'ENOTDIR') return undefined;
    throw fileError(error, `cannot read the signature ${path}`);
  }
}

async function fetchSignature(url: URL, fetchDocument: FetchDocument): Promise<Uint8Array | undefined> {
  try {
    return (await fetchDocument(url.href, { limitBytes: SIGNATURE_LIMIT_BYTES })).bytes;
  } catch (error) {
    if (error instanceof RktError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}
