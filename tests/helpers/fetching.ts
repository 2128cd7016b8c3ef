/** Fetching over a network in tests: a store of its own, short pauses, and what the store holds. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fetchImage, parseImageString } from '../../src/image/index.ts';
import type { FetchedImage, FetchOptions, NetworkSettings } from '../../src/image/index.ts';
import { openStore } from '../../src/store/index.ts';
import type { Store } from '../../src/store/index.ts';
import { scratchDir } from './scratch-dir.ts';

export interface FetchBench {
  dir: string;
  store: Store;
  /** What was told on the way. */
  messages: string[];
  fetch(text: string, options?: Partial<Omit<FetchOptions, 'network'>> & { network?: Partial<NetworkSettings> }): Promise<FetchedImage>;
  /** Every path of the store with size, and what its small files say: what a failure must not change. */
  contents(): string[];
}

export const QUICK_RETRY = { attempts: 3, firstPauseMs: 5, longestPauseMs: 20, longestRetryAfterMs: 2000 };
export const ALLOW_ALL = { image: true, tls: false, http: true, pubkey: false };

export function fetchBench(t: { teardown(action: () => void): void }): FetchBench {
  const dir = scratchDir(t, 'fetch');
  const dataDir = join(dir, 'data');
  const store = openStore(dataDir);
  const messages: string[] = [];
  const settings: NetworkSettings = {
    insecure: ALLOW_ALL,
    configDirs: [join(dir, 'config')],
    localConfigDir: join(dir, 'config'),
    dataDir,
    authConfigs: [],
    trustKeysFromHttps: false,
    userAgent: 'rkt/test',
    env: { HOME: dir, CONTAINERS_REGISTRIES_CONF: join(dir, 'registries.conf'), PATH: `${dir}:${process.env['PATH'] ?? ''}` },
    onMessage: (message) => void messages.push(message),
    retry: QUICK_RETRY,
    silenceMs: 2000,
  };
  return {
    dir,
    store,
    messages,
    fetch: (text, { network, ...options } = {}) => fetchImage(parseImageString(text, dir), { store, network: { ...settings, ...network }, ...options }),
    contents: () => storeContents(dataDir),
  };
}

const SMALL_BYTES = 64 << 10;

/** Every path below with size, and what its small files say. */
export function storeContents(directory: string, prefix = ''): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    // Empty directories are made on the way; they hold nothing.
    if (entry.isDirectory()) return storeContents(path, `${prefix}${entry.name}/`);
    const { size } = statSync(path);
    return [`${prefix}${entry.name} ${size} ${size <= SMALL_BYTES ? readFileSync(path).toString('base64') : ''}`];
  }).sort();
}
