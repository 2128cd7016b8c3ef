/** The keys of a host, made as they are made once on every host: by swtpm_setup, with the authority of swtpm_localca. */
import { createSign } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { chainToAnchor } from '../src/attest/certificate.ts';
import { parseCertificates, toPem, type Certificate } from '../src/attest/index.ts';
import { NO_PASSWORD, tpmCommand } from '../src/tpm/command.ts';
import { createHostKey, ENDORSEMENT_CERTIFICATE_INDICES, endorsePodKey, equalBytes, guestMay, KEY_HANDLES, parseAttestedQuote, readNvIndex, readPublic, TPM_RH } from '../src/tpm/index.ts';
import { scratchDir } from './helpers/scratch-dir.ts';
import { certifyHostKey } from './helpers/soft-tpm.ts';
import { runTool, startSwtpm } from './helpers/swtpm.ts';

t.test("a host's state by swtpm_setup, with the authority of swtpm_localca", async (t) => {
  const directory = scratchDir(t, 'host');
  const file = (name: string, text = ''): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const ca = join(directory, 'ca');
  const state = join(directory, 'state');
  mkdirSync(ca);
  mkdirSync(state);
  const localca = file('localca.conf', `statedir = ${ca}\nsigningkey = ${ca}/signkey.pem\nissuercert = ${ca}/issuercert.pem\ncertserial = ${ca}/certserial\n`);
  const setup = file('setup.conf', `create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = ${localca}\ncreate_certs_tool_options = ${file('localca.options')}\n`);
  const { status, stdout } = runTool('swtpm_setup', ['--tpm2', '--tpmstate', state, '--createek', '--ecc', '--create-ek-cert', '--pcr-banks', 'sha256,sha384', '--config', setup, '--lock-nvram', '--vmid', 'test host', '--overwrite']);
  t.equal(status, 0, stdout);
  const tpm = await startSwtpm(t, { state });
  const root = readFileSync(join(ca, 'swtpm-localca-rootca-cert.pem'), 'utf8');
  const issuer = readFileSync(join(ca, 'issuercert.pem'), 'utf8');

  const chain = (leafPem: string): Promise<Certificate[]> =>
    chainToAnchor({ leaf: parseCertificates(leafPem)[0]!, intermediates: parseCertificates(issuer), anchors: parseCertificates(root), nowMs: Date.now() + 1000 });

  // The endorsement key's certificate, as any tool finds it.
  const found = await Promise.all(ENDORSEMENT_CERTIFICATE_INDICES.map(async (index) => await readNvIndex(tpm.transport, index).catch(() => null)));
  const endorsement = toPem(found.find((der) => der !== null)!);
  t.equal((await chain(endorsement)).length, 3);
  t.equal(parseCertificates(endorsement)[0]?.isForAttestationKeys, false, 'and it is none for an attestation key');
  t.ok((await tpm.run(readPublic(KEY_HANDLES.eccEndorsementKey))).publicArea.length > 0);

  // The host's key, certified by the same authority.
  const signKey = readFileSync(join(ca, 'signkey.pem'));
  const keyPublic = await createHostKey(tpm.transport);
  const pem = await certifyHostKey({ pem: issuer, sign: (message) => Promise.resolve(new Uint8Array(createSign('sha256').update(message).sign(signKey))) }, keyPublic);
  t.strictSame((await chain(pem)).map(({ subjectName }) => subjectName), ['test host', 'swtpm-localca', 'swtpm-localca-rootca']);
  const { extraData } = parseAttestedQuote((await endorsePodKey(tpm.transport, new Uint8Array(34), 'uuid')).attest);
  t.equal(extraData.length, 32);

  // A guest's owner may ask, but only the platform can remove what the platform made, and that is not the guest's.
  const index = ENDORSEMENT_CERTIFICATE_INDICES[found.findIndex((der) => der !== null)]!;
  const undefine = tpmCommand('NV_UndefineSpace', { handles: [TPM_RH.owner, index], authorizations: [NO_PASSWORD] }, () => undefined);
  t.ok(guestMay(undefine.bytes).allowed);
  await t.rejects(tpm.run(undefine), { name: 'RktError' });
  t.ok(equalBytes(await readNvIndex(tpm.transport, index), found.find((der) => der !== null)!));
});
