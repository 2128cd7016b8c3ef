/** Certificates: openssl judges what is issued here, and makes the chains that must be refused. */
import { execFileSync } from 'node:child_process';
import { createSign, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { issueHostCertificate, parseCertificates, toPem, type Certificate } from '../../src/attest/index.ts';
import { chainToAnchor } from '../../src/attest/certificate.ts';
import { seededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { certifyHostKey, softAuthority, softKey, type SoftAuthority } from '../helpers/soft-tpm.ts';
import { runTool } from '../helpers/swtpm.ts';

const NOW = Date.UTC(2026, 0, 1);

function chain(leafPem: string, anchorPem: string, more: { intermediates?: string; nowMs?: number } = {}): Promise<Certificate[]> {
  return chainToAnchor({ leaf: parseCertificates(leafPem)[0]!, intermediates: parseCertificates(more.intermediates ?? ''), anchors: parseCertificates(anchorPem), nowMs: more.nowMs ?? Date.now() + 1000 });
}

t.test('what is issued is what openssl and Node read', async (t) => {
  for (const type of ['ec', 'rsa'] as const) {
    const authority = softAuthority(t, type);
    const pem = await certifyHostKey(authority, softKey().publicArea, 'häuslich');
    const directory = scratchDir(t, 'certificate');
    writeFileSync(join(directory, 'leaf.pem'), pem);
    writeFileSync(join(directory, 'ca.pem'), authority.pem);
    const { status, stderr } = runTool('openssl', ['verify', '-x509_strict', '-check_ss_sig', '-CAfile', join(directory, 'ca.pem'), join(directory, 'leaf.pem')]);
    t.equal(status, 0, stderr);
    const judge = new X509Certificate(pem);
    const [mine] = parseCertificates(pem);
    t.equal(judge.subject, 'CN=häuslich');
    t.equal(mine?.subjectName, 'häuslich');
    t.equal(judge.ca, false);
    t.strictSame(judge.keyUsage, ['2.23.133.8.3']);
    t.equal(mine?.notAfterMs, Date.parse(judge.validTo));
    t.equal(mine?.notBeforeMs, Date.parse(judge.validFrom));
    t.match({ isAuthority: mine?.isAuthority, maySign: mine?.maySign, maySignCertificates: mine?.maySignCertificates, isForAttestationKeys: mine?.isForAttestationKeys }, { isAuthority: false, maySign: true, maySignCertificates: false, isForAttestationKeys: true });
    t.equal((await chain(pem, authority.pem)).length, 2);
  }
});

/** An authority below another one. */
function intermediate(t: { teardown(action: () => void): void }, options: { constraints?: string; usage?: string; root?: string[] } = {}): { rootPem: string; pem: string; authority: SoftAuthority } {
  const directory = scratchDir(t, 'ca');
  const run = (...args: string[]): void => void execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  run('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-nodes', '-keyout', 'root.key', '-out', 'root.pem', '-subj', '/CN=root', '-days', '30', ...(options.root ?? []));
  run('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.csr', '-subj', '/CN=below');
  writeFileSync(join(directory, 'extensions'), `basicConstraints=${options.constraints ?? 'critical,CA:TRUE'}\nkeyUsage=${options.usage ?? 'critical,keyCertSign'}\n`);
  run('x509', '-req', '-in', 'ca.csr', '-CA', 'root.pem', '-CAkey', 'root.key', '-CAcreateserial', '-out', 'ca.pem', '-days', '30', '-extfile', 'extensions');
  const key = readFileSync(join(directory, 'ca.key'));
  const pem = readFileSync(join(directory, 'ca.pem'), 'utf8');
  return { rootPem: readFileSync(join(directory, 'root.pem'), 'utf8'), pem, authority: { pem, sign: (message) => Promise.resolve(new Uint8Array(createSign('sha256').update(message).sign(key))) } };
}

t.test('chains', async (t) => {
  const { rootPem, pem, authority } = intermediate(t);
  const leaf = await certifyHostKey(authority, softKey().publicArea);
  t.equal((await chain(leaf, rootPem, { intermediates: pem })).length, 3);
  t.equal((await chain(leaf, pem)).length, 2, 'an authority below may be the one that is trusted');
  await t.rejects(chain(leaf, rootPem), { code: 'BAD_SIGNATURE' }, 'without the one between');
  await t.rejects(chain(leaf, softAuthority(t).pem, { intermediates: pem + rootPem }), { code: 'BAD_SIGNATURE' }, 'roots in the evidence are not trusted');
  await t.rejects(chain(leaf, rootPem, { intermediates: pem, nowMs: Date.now() + 40 * 86_400_000 }), { code: 'BAD_SIGNATURE', message: /has not been valid since/ });
  for (const options of [{ constraints: 'critical,CA:FALSE' }, { usage: 'critical,digitalSignature' }]) {
    const wrong = intermediate(t, options);
    await t.rejects(chain(await certifyHostKey(wrong.authority, softKey().publicArea), wrong.rootPem, { intermediates: wrong.pem }), { code: 'BAD_SIGNATURE' }, JSON.stringify(options));
  }
  const shallow = intermediate(t, { root: ['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:0'] });
  const below = await certifyHostKey(shallow.authority, softKey().publicArea);
  await t.rejects(chain(below, shallow.rootPem, { intermediates: shallow.pem }), { code: 'BAD_SIGNATURE' }, 'a root that allows no authority below itself');
  const direct = softAuthority(t, 'ec', ['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:0']);
  t.equal((await chain(await certifyHostKey(direct, softKey().publicArea), direct.pem)).length, 2);
  const [forged] = parseCertificates(leaf);
  const changed = forged!.der.slice();
  changed[changed.length - 1]! ^= 1;
  await t.rejects(chain(toPem(changed), pem), { code: 'BAD_SIGNATURE' });
});

t.test('a critical extension that is not understood is refused', (t) => {
  const { pem } = softAuthority(t, 'ec', ['-addext', 'nameConstraints=critical,permitted;DNS:example.org']);
  t.throws(() => parseCertificates(pem), { code: 'UNSUPPORTED', message: /critical extension/ });
  t.end();
});

t.test('a key that is no attestation key gets no certificate', async (t) => {
  const authority = softAuthority(t);
  const [issuer] = parseCertificates(authority.pem);
  const keyPublic = softKey().publicArea.slice();
  keyPublic[5]! &= ~0x05;
  await t.rejects(issueHostCertificate({ keyPublic, subject: 'x', issuer: issuer!, sign: authority.sign, serial: new Uint8Array(16), notBeforeMs: NOW }), { code: 'BAD_INPUT' });
});

t.test('broken ones are errors, never anything else', async (t) => {
  const pem = await certifyHostKey(softAuthority(t), softKey().publicArea);
  const { der } = parseCertificates(pem)[0]!;
  const random = seededRandom(9);
  for (let round = 0; round < 500; round++) {
    const mutated = der.slice(0, random.below(10) === 0 ? random.below(der.length) : der.length);
    for (let count = random.below(4); count > 0 && mutated.length > 0; count--) mutated[random.below(mutated.length)] = random.below(256);
    try {
      await chain(toPem(mutated), pem);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'RktError') throw error;
    }
  }
  t.throws(() => parseCertificates('-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n'), { code: 'BAD_INPUT' });
  t.throws(() => parseCertificates(pem.repeat(9)), { code: 'LIMIT' });
  t.same(parseCertificates('no certificates here'), []);
});
