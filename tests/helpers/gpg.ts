/** Keys and signatures made by GnuPG, which is somebody else's idea of OpenPGP. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { scratchDir } from './scratch-dir.ts';

export interface Gpg {
  /** GNUPGHOME. */
  home: string;
  run(args: readonly string[], input?: Uint8Array | string): Buffer;
  /** Gives the fingerprint in lower case. `algorithm` as gpg has it, such as `ed25519` or `rsa2048`; `expires` such as `never` or `1d`. */
  makeKey(userId: string, options?: { algorithm?: string; expires?: string; now?: string }): string;
  exportKey(fingerprint: string, options?: { armor?: boolean }): Buffer;
  /** Detached signature of a file. */
  sign(file: string, fingerprint: string, options?: { armor?: boolean; digest?: string; now?: string; more?: readonly string[] }): Buffer;
  revoke(fingerprint: string): void;
}

const WITHOUT_TERMINAL = ['--batch', '--no-tty', '--quiet', '--yes', '--pinentry-mode', 'loopback', '--passphrase', ''];

/** A keyring of its own; its agent ends with the test. `t` is a tap test. */
export function makeGpg(t: { teardown(action: () => void): void }): Gpg {
  const home = join(scratchDir(t, 'gpg'), 'h');
  mkdirSync(home, { mode: 0o700 });
  const env = { ...process.env, GNUPGHOME: home };
  t.teardown(() => execFileSync('gpgconf', ['--kill', 'all'], { env }));
  const run = (args: readonly string[], input?: Uint8Array | string): Buffer => execFileSync('gpg', [...WITHOUT_TERMINAL, ...args], { env, input, stdio: ['pipe', 'pipe', 'pipe'] });
  const at = (now: string | undefined): string[] => (now === undefined ? [] : ['--faked-system-time', now]);
  return {
    home,
    run,
    makeKey: (userId, { algorithm = 'ed25519', expires = 'never', now } = {}) => {
      run([...at(now), '--quick-generate-key', userId, algorithm, 'sign', expires]);
      const listing = run(['--with-colons', '--list-keys', `=${userId}`]).toString();
      return (/^fpr:+([0-9A-F]+):/m.exec(listing)?.[1] ?? '').toLowerCase();
    },
    exportKey: (fingerprint, { armor = true } = {}) => run([...(armor ? ['--armor'] : []), '--export', fingerprint]),
    sign: (file, fingerprint, { armor = true, digest, now, more = [] } = {}) =>
      run([...at(now), ...(armor ? ['--armor'] : []), ...(digest === undefined ? [] : ['--digest-algo', digest]), '--local-user', fingerprint, ...more, '--output', '-', '--detach-sign', file]),
    revoke: (fingerprint) => {
      // The certificate of revocation that gpg wrote with the key, made valid by taking the colon away.
      const certificate = execFileSync('sed', ['s/^:-----BEGIN/-----BEGIN/', join(home, 'openpgp-revocs.d', `${fingerprint.toUpperCase()}.rev`)]);
      run(['--import'], certificate);
    },
  };
}
