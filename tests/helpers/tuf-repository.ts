/** A repository of The Update Framework in memory, signed by hand (TUF specification 1.0, section 4 "Document formats"). */
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { RktError } from '../../src/error.ts';
import type { FetchDocument } from '../../src/image/verification.ts';

interface RoleKey {
  id: string;
  privateKey: KeyObject;
  document: object;
}

export interface TargetEntry {
  hashes: { sha256: string };
  length: number;
}

export interface Delegation {
  name: string;
  paths: string[];
  targets: Record<string, TargetEntry>;
}

export interface RepositoryState {
  targets: Record<string, TargetEntry>;
  delegation?: Delegation;
}

export interface TufServer {
  url: string;
  /** Documents by name below the URL, such as `timestamp.json`. */
  files: Map<string, Uint8Array>;
  root(): Uint8Array;
  /** Signs and publishes; every version goes up unless said otherwise. */
  publish(state: RepositoryState, options?: PublishOptions): void;
  /** Publishes a new root with new keys for the other roles, signed by old and new root keys. */
  rotate(): void;
  fetchDocument: FetchDocument;
  asked: string[];
}

export interface PublishOptions {
  version?: number;
  expires?: Date;
}

const SPEC_VERSION = '1.0.31';
const TOP_ROLES = ['root', 'timestamp', 'snapshot', 'targets'] as const;
type TopRole = (typeof TOP_ROLES)[number];

/** Canonical JSON of OLPC, for data whose strings need no escapes but those of quotes. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([name, item]) => `${JSON.stringify(name)}:${canonicalJson(item)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}

function makeKey(): RoleKey {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  const document = { keytype: 'ed25519', scheme: 'ed25519', keyval: { public: raw.toString('hex') } };
  return { id: createHash('sha256').update(canonicalJson(document)).digest('hex'), privateKey, document };
}

function signed(content: object, keys: readonly RoleKey[]): Buffer {
  const bytes = Buffer.from(canonicalJson(content));
  return Buffer.from(JSON.stringify({ signatures: keys.map((key) => ({ keyid: key.id, sig: sign(null, bytes, key.privateKey).toString('hex') })), signed: content }));
}

export function target(digest: string, length = 100): TargetEntry {
  return { hashes: { sha256: digest.replace('sha256:', '') }, length };
}

const DAY_MS = 86_400_000;

export function makeTufServer(url = 'https://tuf.example.com/repo'): TufServer {
  const files = new Map<string, Uint8Array>();
  const asked: string[] = [];
  let keys = Object.fromEntries(TOP_ROLES.map((role) => [role, makeKey()])) as Record<TopRole, RoleKey>;
  const delegate = makeKey();
  let rootVersion = 0;
  let version = 0;
  const later = (date?: Date): string => (date ?? new Date(Date.now() + 30 * DAY_MS)).toISOString().replace(/\.\d+Z$/, 'Z');

  const publishRoot = (alsoBy: readonly RoleKey[]): void => {
    rootVersion++;
    const content = {
      _type: 'root',
      spec_version: SPEC_VERSION,
      version: rootVersion,
      expires: later(new Date(Date.now() + 365 * DAY_MS)),
      consistent_snapshot: true,
      keys: Object.fromEntries(Object.values(keys).map((key) => [key.id, key.document])),
      roles: Object.fromEntries(TOP_ROLES.map((role) => [role, { keyids: [keys[role].id], threshold: 1 }])),
    };
    files.set(`${rootVersion}.root.json`, signed(content, [keys.root, ...alsoBy]));
  };

  publishRoot([]);
  return {
    url,
    files,
    asked,
    root: () => files.get('1.root.json') ?? new Uint8Array(),
    rotate: () => {
      const old = keys.root;
      keys = Object.fromEntries(TOP_ROLES.map((role) => [role, makeKey()])) as Record<TopRole, RoleKey>;
      publishRoot([old]);
    },
    publish: ({ targets, delegation }, options = {}) => {
      version = options.version ?? version + 1;
      const common = { spec_version: SPEC_VERSION, version, expires: later(options.expires) };
      const delegations = delegation === undefined ? {} : { delegations: { keys: { [delegate.id]: delegate.document }, roles: [{ name: delegation.name, keyids: [delegate.id], threshold: 1, terminating: false, paths: delegation.paths }] } };
      files.set(`${version}.targets.json`, signed({ _type: 'targets', ...common, targets, ...delegations }, [keys.targets]));
      if (delegation !== undefined) files.set(`${version}.${encodeURIComponent(delegation.name)}.json`, signed({ _type: 'targets', ...common, targets: delegation.targets }, [delegate]));
      const meta = { 'targets.json': { version }, ...(delegation === undefined ? {} : { [`${delegation.name}.json`]: { version } }) };
      files.set(`${version}.snapshot.json`, signed({ _type: 'snapshot', ...common, meta }, [keys.snapshot]));
      files.set('timestamp.json', signed({ _type: 'timestamp', ...common, meta: { 'snapshot.json': { version } } }, [keys.timestamp]));
    },
    fetchDocument: async (address, { limitBytes }) => {
      asked.push(address);
      const bytes = address.startsWith(`${url}/`) ? files.get(address.slice(url.length + 1)) : undefined;
      if (bytes === undefined) throw new RktError('NOT_FOUND', `${address}: bad HTTP status code: 404`);
      if (bytes.length > limitBytes) throw new RktError('LIMIT', `${address}: larger than ${limitBytes} bytes`);
      return { status: 200, bytes, url: address, headers: new Map() };
    },
  };
}
