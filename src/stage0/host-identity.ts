/**
 * What a host vouches for its pods with: an authority of its own (swtpm_localca), and a key in a TPM state that no guest ever
 * talks to, certified by that authority. Made once. The monitor uses it (stage1-kvm/tpm/endorsement.ts).
 *
 *   tpm/ca.pem                     what verifiers trust
 *   tpm/ca/                        the authority, private keys included
 *   tpm/host/state/                state of the TPM with the host's key
 *   tpm/host/certificates.pem      of the host's key, then of the authority's intermediate
 *   tpm/host/endorsement-key.pem   of the endorsement keys of that TPM
 */
import { spawn } from 'node:child_process';
import { createSign, randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { issueHostCertificate, parseCertificates, toPem } from '../attest/index.ts';
import { RktError } from '../error.ts';
import { openStore, writeFileAtomic } from '../store/index.ts';
import { withLock } from '../store/lock.ts';
import { createHostKey, ENDORSEMENT_CERTIFICATE_INDICES, readNvIndex, TpmResponseError, type TpmTransport } from '../tpm/index.ts';
import { tpmConnection } from './tpm-connection.ts';
import { setUpTpm, swtpmMissing, TPM_BANKS } from './tpm-state.ts';

const LOCALCA = '/usr/bin/swtpm_localca';
/** Names that swtpm_localca gives. */
const CA_FILES = { root: 'swtpm-localca-rootca-cert.pem', issuer: 'issuercert.pem', key: 'signkey.pem', serial: 'certserial' } as const;
const CERTIFICATE_MODE = 0o644;

/** Certificate of the authority, in PEM. It is there once the identity is. */
export function hostCaPath(dataDir: string): string {
  return join(dataDir, 'tpm', 'ca.pem');
}

/** Makes the identity unless it is there. True: it is new. Throws RktError MISSING_DEPENDENCY, IO. */
export async function ensureHostIdentity(dataDir: string): Promise<boolean> {
  const directory = join(dataDir, 'tpm');
  // The last thing that appears, by rename.
  const host = join(directory, 'host');
  if (existsSync(host)) return false;
  return await withLock(join(dataDir, 'locks'), 'host-identity', async () => {
    if (existsSync(host)) return false;
    const workspace = openStore(dataDir).openWorkspace();
    try {
      const ca = join(directory, 'ca');
      const half = { ca: join(workspace.path, 'ca'), host: join(workspace.path, 'host') };
      mkdirSync(directory, { recursive: true, mode: 0o750 });
      // An authority outlives the keys it certifies: verifiers know it already.
      const isKnownCa = existsSync(ca);
      if (isKnownCa) cpSync(ca, half.ca, { recursive: true });
      else mkdirSync(half.ca, { mode: 0o700 });
      await makeIdentity(workspace.path, half);
      if (!isKnownCa) renameSync(half.ca, ca);
      writeFileAtomic(hostCaPath(dataDir), readFileSync(join(ca, CA_FILES.root)), CERTIFICATE_MODE);
      renameSync(half.host, host);
      return true;
    } finally {
      workspace.remove();
    }
  });
}

async function makeIdentity(workspace: string, { ca, host }: { ca: string; host: string }): Promise<void> {
  const state = join(host, 'state');
  mkdirSync(host, { mode: 0o750 });
  mkdirSync(state, { mode: 0o700 });
  const file = (name: string, lines: readonly string[]): string => {
    const path = join(workspace, name);
    writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
    return path;
  };
  const localca = file('localca.conf', [`statedir = ${ca}`, `signingkey = ${join(ca, CA_FILES.key)}`, `issuercert = ${join(ca, CA_FILES.issuer)}`, `certserial = ${join(ca, CA_FILES.serial)}`]);
  const setup = file('setup.conf', [`create_certs_tool = ${LOCALCA}`, `create_certs_tool_config = ${localca}`, `create_certs_tool_options = ${file('localca.options', [])}`]);
  setUpTpm(state, ['--create-ek-cert', '--ecc', '--pcr-banks', TPM_BANKS, '--config', setup, '--lock-nvram', '--vmid', hostname()]);
  await withTpm(state, async (transport) => {
    const issuerPem = readFileSync(join(ca, CA_FILES.issuer), 'utf8');
    const leafPem = await certify(await createHostKey(transport), issuerPem, readFileSync(join(ca, CA_FILES.key)));
    writeFileSync(join(host, 'certificates.pem'), `${leafPem}${issuerPem}`, { mode: CERTIFICATE_MODE });
    writeFileSync(join(host, 'endorsement-key.pem'), await endorsementCertificates(transport), { mode: CERTIFICATE_MODE });
  });
}

async function certify(keyPublic: Uint8Array, issuerPem: string, signingKey: Buffer): Promise<string> {
  const [issuer] = parseCertificates(issuerPem);
  if (issuer === undefined) throw new RktError('IO', `swtpm_localca left no certificate of its own in ${CA_FILES.issuer}`);
  const sign = (message: Uint8Array): Promise<Uint8Array> => Promise.resolve(new Uint8Array(createSign('sha256').update(message).sign(signingKey)));
  return toPem(await issueHostCertificate({ keyPublic, subject: hostname(), issuer, sign, serial: randomBytes(16), notBeforeMs: Date.now() }));
}

async function endorsementCertificates(transport: TpmTransport): Promise<string> {
  let pem = '';
  for (const index of ENDORSEMENT_CERTIFICATE_INDICES) {
    try {
      pem += toPem(await readNvIndex(transport, index));
    } catch (error) {
      // There is none of that kind.
      if (!(error instanceof TpmResponseError)) throw error;
    }
  }
  return pem;
}

/** Runs a swtpm on the state for as long as `work` takes. */
async function withTpm(state: string, work: (transport: TpmTransport) => Promise<void>): Promise<void> {
  const child = spawn('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--fd', '3', '--flags', 'not-need-init,startup-clear', '--terminate'], { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = new Promise<void>((resolve, reject) => child.on('close', () => resolve()).on('error', (cause) => reject(swtpmMissing('swtpm', cause))));
  // Heard of below; until then it must not count as unhandled.
  ended.catch(() => undefined);
  try {
    using connection = tpmConnection(child.stdio[3] as Duplex, () => new RktError('IO', `swtpm has ended: ${said.trim()}`));
    await work(connection.transport);
  } finally {
    await ended;
  }
}
