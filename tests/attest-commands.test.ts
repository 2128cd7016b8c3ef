/** `rkt attest` where no virtual machine is needed: pods without a TPM, pods that were never measured, crashes, and what is no input. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { concatBytes, encodePending, eventOf, PCR, POD_BANKS, QUOTED_PCRS, replay, toHex } from '../src/tpm/index.ts';
import { attestationOf } from './helpers/attestation.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { makeHost, type RunResult } from './helpers/rkt.ts';
import { podLog, samplePod } from './helpers/sample-pod.ts';
import { makeHelloImage, makeStubStage1 } from './helpers/stub-stage1.ts';
import { runTool } from './helpers/swtpm.ts';

const OCI = busyboxImage();
const NONCE = '--nonce=00112233445566778899aabbccddeeff';

const host = makeHost('attest-commands');
t.teardown(host.close);
const { file, podFile, succeed, predict } = attestationOf(host);
const stub = `--stage1-path=${makeStubStage1(file('stub.aci'))}`;
const hello = makeHelloImage(file('hello.aci'));

async function refused(args: readonly string[]): Promise<string> {
  const { stdout, stderr, status } = await host.rkt(args);
  if (status !== 254 || stdout.length > 0) throw new Error(`exit status ${status}: ${stdout.toString()}${stderr}`);
  return stderr;
}

async function stubPod(...args: readonly string[]): Promise<string> {
  const uuidFile = file('uuid');
  rmSync(uuidFile, { force: true });
  await succeed(['run', '--net=none', stub, `--uuid-file-save=${uuidFile}`, ...args, hello]);
  return readFileSync(uuidFile, 'utf8');
}

t.test('the identity of a host is made once, and keeps its authority', async (t) => {
  const first = (await succeed(['attest', 'init'])).toString().trim();
  t.equal(first, join(host.dataDir, 'tpm/ca.pem'));
  const authority = readFileSync(first, 'utf8');
  const certificates = join(host.dataDir, 'tpm/host/certificates.pem');
  const leaf = readFileSync(certificates, 'utf8');
  t.equal((await succeed(['attest', 'init'])).toString().trim(), first);
  t.equal(readFileSync(certificates, 'utf8'), leaf);
  // The leaf, then the intermediate: as verifiers get them.
  writeFileSync(file('chain.pem'), leaf);
  t.equal(runTool('openssl', ['verify', '-x509_strict', '-CAfile', first, '-untrusted', file('chain.pem'), file('chain.pem')]).status, 0);
  t.match(readFileSync(join(host.dataDir, 'tpm/host/endorsement-key.pem'), 'utf8'), /-----BEGIN CERTIFICATE-----/);
  for (const secret of ['tpm/ca', 'tpm/host/state']) t.equal(statSync(join(host.dataDir, secret)).mode & 0o077, 0, `${secret} is nobody else's`);

  rmSync(join(host.dataDir, 'tpm/host'), { recursive: true });
  await Promise.all([succeed(['attest', 'init']), succeed(['attest', 'init'])]);
  t.equal(readFileSync(first, 'utf8'), authority, 'verifiers need no new one');
  t.not(readFileSync(certificates, 'utf8'), leaf);
  t.strictSame(readdirSync(join(host.dataDir, 'cas/tmp')), []);
});

t.test('pods that were never measured', async (t) => {
  const withoutTpm = await stubPod('--tpm=off');
  const neverMeasured = await stubPod();
  const prepared = (await succeed(['prepare', OCI])).toString().trim();
  for (const command of [['log'], ['pcrs'], ['evidence'], ['quote', NONCE]]) {
    t.match(await refused(['attest', ...command, withoutTpm]), new RegExp(`^${command[0]}: pod "${withoutTpm}" has no TPM: it was made with --tpm=off\n$`));
    t.match(await refused(['attest', ...command, prepared]), /has not been started \(prepared\): nothing has been measured/);
  }
  t.match(await refused(['attest', 'log', neverMeasured]), /has no event log: nothing has been measured before it ended/);
  t.match(await refused(['attest', 'evidence', neverMeasured]), /no evidence has been made of pod/);
  t.match(await refused(['attest', 'quote', NONCE, neverMeasured]), /is not running \(exited\): its TPM is gone/);
});

t.test('a monitor that died while it measured', async (t) => {
  const enter = eventOf({ kind: 'enter', app: 'web', command: ['sh'] });
  const { bytes } = podLog(samplePod());
  const before = POD_BANKS.map((algorithm) => ({ algorithm, digest: replay({ algorithms: POD_BANKS, events: podLog(samplePod()).events }).get(algorithm)!.get(PCR.pod)! }));
  const note = encodePending({ logSizeBytes: bytes.length, before, event: enter });
  const whole = concatBytes(bytes, enter.record);

  const crashed = async (log: Uint8Array, pending: Uint8Array): Promise<{ log: RunResult; pcrs: RunResult; binary: Buffer }> => {
    const uuid = await stubPod();
    writeFileSync(podFile(uuid, 'tpm/eventlog'), log);
    writeFileSync(podFile(uuid, 'tpm/pending'), pending);
    const binary = (await host.rkt(['attest', 'log', '--format=binary', uuid])).stdout;
    return { log: await host.rkt(['attest', 'log', uuid]), pcrs: await host.rkt(['attest', 'pcrs', '--format=json', uuid]), binary };
  };
  const SAYS = /ended while it measured into PCR 13: the host ran "sh" in app "web"\n.*not in the log, and whether the TPM has had it is not known/;

  for (const [what, log] of [['nothing of the event is in the log', bytes], ['a part of it is', whole.subarray(0, -3)]] as const) {
    const found = await crashed(log, note);
    t.match(found.log.stderr, SAYS, what);
    t.match(found.pcrs.stderr, SAYS, what);
    t.equal(toHex(found.binary), toHex(bytes), `${what}: whole records only`);
    const { pcrs: shown } = JSON.parse(found.pcrs.stdout.toString()) as { pcrs: Record<string, Record<string, string>> };
    t.equal(shown['sha384']?.[String(PCR.pod)], toHex(before[1]!.digest));
    t.strictSame(Object.keys(shown['sha256'] ?? {}).map(Number), QUOTED_PCRS);
  }
  const complete = await crashed(whole, note);
  t.equal(complete.log.stderr, '', 'only the note was left over');
  t.match(complete.log.stdout.toString(), /the host ran "sh" in app "web"\n$/);
  t.equal((await crashed(bytes, note.subarray(0, 20))).log.stderr, '', 'a note that is not whole: nothing had been begun');
  const foreign = await crashed(concatBytes(bytes, eventOf({ kind: 'app-stop', name: 'web' }).record), note);
  t.equal(foreign.log.status, 254, 'a log that the note does not belong to');
  t.match(foreign.log.stderr, /interrupted and cannot be completed: the event log is not the one the step was begun with/);
  t.equal(foreign.log.stdout.length, 0);
});

t.test('a log that somebody has cut short is refused, not shown in part', async (t) => {
  const uuid = await stubPod();
  writeFileSync(podFile(uuid, 'tpm/eventlog'), podLog(samplePod()).bytes.subarray(0, -5));
  t.match(await refused(['attest', 'log', uuid]), /event log: .* left/);
  t.match(await refused(['attest', 'pcrs', uuid]), /event log: .* left/);
});

t.test('forms of the log', async (t) => {
  const uuid = await stubPod();
  const { bytes, events } = podLog(samplePod());
  writeFileSync(podFile(uuid, 'tpm/eventlog'), bytes);
  t.equal((await succeed(['attest', 'log', uuid])).toString().split('\n').length, events.length + 1);
  t.equal((JSON.parse((await succeed(['attest', 'log', '--format=cel', uuid])).toString()) as unknown[]).length, events.length);
  t.match(JSON.parse((await succeed(['attest', 'log', '--format=json', uuid])).toString()), [{ number: 1, pcr: 0, type: 'EV_EVENT_TAG', measurement: { kind: 'vmm' }, text: /virtual machine monitor/ }]);
  t.ok((await succeed(['attest', 'log', '--format=binary', uuid])).equals(bytes));
  t.match(await refused(['attest', 'log', '--format=xml', uuid]), /expected one of: text, json, binary, cel/);
});

t.test('predict leaves nothing, and tells when something else would be used', async (t) => {
  await predict('warm', ['--net=none', OCI, '--exec=/bin/true']);
  const before = host.listing();
  const reference = await predict('first', ['--net=none', OCI, '--exec=/bin/true']);
  t.strictSame(host.listing(), before);
  for (const format of ['text', 'pcrlock', 'rvps']) t.ok((await succeed(['attest', 'predict', `--format=${format}`, '--net=none', OCI, '--exec=/bin/true'])).length > 0, format);
  t.strictSame(host.listing(), before);
  t.match(await refused(['attest', 'predict', '--tpm=off', '--net=none', OCI]), /nothing is measured of a pod without a TPM/);
  t.match(await refused(['attest', 'predict', '--net=none', stub, hello]), /has no entrypoint "predict"/);
  t.strictSame(host.listing().filter((path) => /^pods\/(embryo|prepare|garbage)\/./.test(path)), []);

  // The digest of a file is remembered: a change that keeps name, size and modification time must be seen.
  const kernel = file('kernel');
  writeFileSync(kernel, readFileSync(join(import.meta.dirname, '../dist/stage1-kvm/kernel')));
  // Whole seconds: Node sets no finer ones exactly.
  const modifiedS = 1_700_000_000;
  utimesSync(kernel, modifiedS, modifiedS);
  const first = await predict('kernel', [`--kernel=${kernel}`, '--net=none', OCI, '--exec=/bin/true']);
  const fd = openSync(kernel, 'r+');
  writeSync(fd, 'X', 1 << 20);
  closeSync(fd);
  utimesSync(kernel, modifiedS, modifiedS);
  const second = await predict('changed-kernel', [`--kernel=${kernel}`, '--net=none', OCI, '--exec=/bin/true']);
  const digest = (path: string): unknown => (JSON.parse(readFileSync(path, 'utf8')) as { measurements: { kind: string; sha256?: string }[] }).measurements.find(({ kind }) => kind === 'kernel')?.sha256;
  t.equal(digest(first), digest(reference));
  t.not(digest(second), digest(first));
});

t.test('a pod whose TPM cannot hold what is measured does not run', async (t) => {
  const cases: { what: string; change(state: string): void; says: RegExp }[] = [
    { what: 'one bank only', change: (state) => t.equal(runTool('swtpm_setup', ['--tpm2', '--tpmstate', state, '--pcr-banks', 'sha256', '--overwrite']).status, 0), says: /the TPM has the PCR banks sha256 \(24\), expected sha256, sha384/ },
    { what: 'a bank more', change: (state) => t.equal(runTool('swtpm_setup', ['--tpm2', '--tpmstate', state, '--pcr-banks', 'sha1,sha256,sha384', '--overwrite']).status, 0), says: /expected sha256, sha384/ },
    { what: 'a state that is none', change: (state) => readdirSync(state).forEach((name) => truncateSync(join(state, name), 100)), says: /^stage1: the TPM \(swtpm\) of the pod has ended/ },
  ];
  for (const { what, change, says } of cases) {
    const uuid = (await succeed(['prepare', OCI, '--exec=/bin/echo', '--', 'I ran'])).toString().trim();
    change(join(host.dataDir, 'pods/prepared', uuid, 'tpm/state'));
    const { status, stdout, stderr } = await host.rkt(['run-prepared', '--net=none', uuid]);
    t.equal(status, 254, what);
    t.equal(stdout.toString(), '', what);
    t.match(stderr, says, what);
  }
});

t.test('a sealed pod takes no input', async (t) => {
  t.match(await refused(['run', '--sealed', '--interactive', '--net=none', OCI]), /^run: a sealed pod takes no input: --sealed excludes --interactive\n/);
  const uuid = (await succeed(['prepare', '--sealed', OCI])).toString().trim();
  t.match(await refused(['run-prepared', '--interactive', '--net=none', uuid]), /a sealed pod takes no input/);
  t.match((await succeed(['status', uuid])).toString(), /^state=prepared\n/);
});

t.test('verify: what it needs, and what is none', async (t) => {
  const reference = await predict('verify', ['--net=none', OCI]);
  const evidence = file('none.json');
  writeFileSync(evidence, '{}');
  const all = [evidence, NONCE, `--reference=${reference}`];
  const { status, stdout } = await host.rkt(['attest', 'verify', ...all]);
  t.equal(status, 1);
  t.match(stdout.toString(), /^FAIL {2}Evidence {3}evidence: format: expected "rkt-evidence"\n/);
  t.match(stdout.toString(), /\n\nThe pod is NOT shown to be the one that was expected\.\n$/);
  t.equal((await host.rkt(['attest', 'verify', '-', ...all.slice(1)], { input: 'no JSON' })).status, 1, 'from standard input');

  t.match(await refused(['attest', 'verify', ...all.filter((word) => word !== evidence)]), /expected one file with evidence/);
  t.match(await refused(['attest', 'verify', ...all.filter((word) => word !== NONCE)]), /expected --nonce=HEX/);
  t.match(await refused(['attest', 'verify', evidence, NONCE]), /expected --reference=FILE/);
  t.match(await refused(['attest', 'verify', evidence, '--nonce=abcd', `--reference=${reference}`]), /nonce of 2 bytes, expected 16 to 64/);
  t.match(await refused(['attest', 'verify', evidence, NONCE, `--reference=${file('missing')}`]), /cannot read .*missing/);
  t.match(await refused(['attest', 'verify', evidence, NONCE, `--reference=${evidence}`]), /none\.json: format: expected "rkt-reference"/);
  t.match(await refused(['attest', 'verify', ...all, `--policy=${evidence}`]), /none\.json: format: expected "rkt-policy"/);
  t.match(await refused(['attest', 'verify', ...all, `--ca=${evidence}`]), /no certificate of a trusted authority/);
  const elsewhere = makeHost('elsewhere');
  t.teardown(elsewhere.close);
  const { stderr } = await elsewhere.rkt(['attest', 'verify', ...all]);
  t.match(stderr, /expected --ca=FILE/, 'a verifier is told whom to trust');
  t.notOk(existsSync(elsewhere.dataDir), 'and leaves nothing');
});
