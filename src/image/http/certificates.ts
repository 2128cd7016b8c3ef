/** Which certificates are trusted and shown, for each host: the machine's and what is in `certs.d/HOST[:PORT]`. */
import { X509Certificate } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, getCACertificates } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { RktError } from '../../error.ts';
import { errnoName, fileError } from '../../store/fs-error.ts';

/**
 * The TLS context for a host. `certs.d` of containers and Docker: `*.crt` are authorities to trust besides the machine's,
 * `NAME.cert` and `NAME.key` are what this side shows of itself. Throws RktError BAD_INPUT naming a damaged file.
 */
export function secureContextOf(host: string, certsDirs: readonly string[]): SecureContext {
  const found = certsDirs.map((directory) => join(directory, host)).find((directory) => namesIn(directory).length > 0);
  const names = found === undefined ? [] : namesIn(found);
  const authorities = names.filter((name) => name.endsWith('.crt')).map((name) => authorityOf(join(found ?? '', name)));
  const identities = names.filter((name) => name.endsWith('.cert')).map((name) => identityOf(found ?? '', name));
  try {
    return createSecureContext({
      ca: [...trustedAuthorities(), ...authorities],
      ...(identities.length === 0 ? {} : { cert: identities.map(({ cert }) => cert), key: identities.map(({ key }) => key) }),
    });
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${found ?? 'the trusted certificates of this machine'}: damaged certificate or key`, { cause });
  }
}

let known: string[] | undefined;

/** Those of the machine, as other programs on it use them; Node's own where there are none. */
function trustedAuthorities(): readonly string[] {
  if (known !== undefined) return known;
  const system = getCACertificates('system');
  // The system keeps most of them twice: in one file, and each in its own.
  return (known = [...new Set([...(system.length > 0 ? system : getCACertificates('bundled')), ...getCACertificates('extra')])]);
}

/** What is no certificate would be passed over in silence. */
function authorityOf(path: string): string {
  const text = readText(path);
  try {
    new X509Certificate(text);
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${path}: not a certificate in PEM form`, { cause });
  }
  return text;
}

function identityOf(directory: string, certName: string): { cert: string; key: string } {
  const keyName = certName.replace(/\.cert$/, '.key');
  if (!namesIn(directory).includes(keyName)) throw new RktError('BAD_INPUT', `${join(directory, certName)}: there is no ${keyName} beside it`);
  return { cert: readText(join(directory, certName)), key: readText(join(directory, keyName)) };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => /\.(crt|cert|key)$/.test(name)).sort();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoName(error) ?? '')) return [];
    throw fileError(error, directory);
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw fileError(error, path);
  }
}
