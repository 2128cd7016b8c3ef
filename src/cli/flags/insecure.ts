/** `--insecure-options`: protections that a person switches off. */

export interface InsecureOptions {
  /** Signatures of images. */
  image: boolean;
  tls: boolean;
  http: boolean;
  pubkey: boolean;
  capabilities: boolean;
  paths: boolean;
  seccomp: boolean;
}

export const SECURE: InsecureOptions = { image: false, tls: false, http: false, pubkey: false, capabilities: false, paths: false, seccomp: false };

const FETCH = ['image', 'tls', 'http', 'pubkey'] as const;
const RUN = ['capabilities', 'paths', 'seccomp'] as const;

const MEANING: Readonly<Record<string, readonly (keyof InsecureOptions)[]>> = {
  none: [],
  image: ['image'],
  tls: ['tls'],
  /** Accepted without effect, as in rkt since 1.26: what is on the disk is verified by the guest on each read. */
  ondisk: [],
  http: ['http'],
  pubkey: ['pubkey'],
  capabilities: ['capabilities'],
  paths: ['paths'],
  seccomp: ['seccomp'],
  'all-fetch': FETCH,
  'all-run': RUN,
  all: [...FETCH, ...RUN],
};

export const INSECURE_NAMES: readonly string[] = Object.keys(MEANING);

export function insecureOptions(value: string): InsecureOptions {
  const result = { ...SECURE };
  const seen = new Set<string>();
  for (const name of value.toLowerCase().split(',').map((part) => part.trim())) {
    const meaning = Object.hasOwn(MEANING, name) ? MEANING[name] : undefined;
    if (meaning === undefined) throw new Error(`unknown option ${JSON.stringify(name)}`);
    if (seen.has(name)) throw new Error(`duplicated option ${JSON.stringify(name)}`);
    seen.add(name);
    for (const protection of meaning) result[protection] = true;
  }
  return result;
}
