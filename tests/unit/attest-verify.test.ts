/** The verifier: what it accepts, and that each trap is one it does not fall into. Every negative case has valid signatures. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parsePolicy, parseReference, predict, referenceDocument, trusteeEvidence, parseEvidence, verdictText, verify, type CheckName, type Reference, type Verdict, type VerifyRequest } from '../../src/attest/index.ts';
import { buildEvidence, concatBytes, createHostKey, digestsOf, encodeLogEvent, encodeLogHeader, endorsePodKey, eventOf, hostEvents, launchMeasurements, nameOf, PCR, pcrExtend, quoteBinding, quotePod, QUOTED_PCRS, QUOTE_SELECTIONS, readPcrs, sha256, toHex, type JsonObject, type MeasuredEvent, type Measurement } from '../../src/tpm/index.ts';
import { podLog, SAMPLE_UUID, samplePod, type LogOptions } from '../helpers/sample-pod.ts';
import { certifyHostKey, SAMPLE_NONCE, softAuthority, softEvidence, softKey, withAttributes, type SoftEvidenceOptions } from '../helpers/soft-tpm.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { runTool, startSwtpm } from '../helpers/swtpm.ts';

const authority = softAuthority(t);
const runtimeData = { uuid: SAMPLE_UUID, dataHex: 'cafe' };
const nonceHex = toHex(SAMPLE_NONCE);

function reference(change: (input: ReturnType<typeof samplePod>) => void = () => undefined): Reference {
  const input = samplePod();
  change(input);
  return parseReference(JSON.stringify(referenceDocument(predict(input))), 'web.json');
}

const request = (evidence: unknown, change: Partial<VerifyRequest> = {}): VerifyRequest => ({ evidence, nonceHex, caPem: authority.pem, references: [reference()], ...change });

async function evidenceOf(log: LogOptions = {}, options: Partial<SoftEvidenceOptions> = {}): Promise<JsonObject> {
  return await softEvidence({ authority, log: podLog(samplePod(), log).bytes, runtimeData, nonce: SAMPLE_NONCE, ...options });
}

/** The names of the checks that failed, and everything that was found wrong. */
function failures({ checks }: Verdict): { failed: CheckName[]; text: string } {
  const failed = checks.filter(({ ok }) => !ok);
  return { failed: failed.map(({ name }) => name), text: failed.flatMap(({ findings }) => findings.map(({ text }) => text)).join('\n') };
}

async function expectFailure(t: Test, verdict: Promise<Verdict>, expected: { in: CheckName; text: RegExp }): Promise<void> {
  const result = await verdict;
  const { failed, text } = failures(result);
  t.equal(result.ok, false);
  t.ok(failed.includes(expected.in), `${expected.in} fails, not ${failed.join(', ')}`);
  t.match(text, expected.text);
}

t.test('a pod that is the one that was expected', async (t) => {
  const cpu = process.cpuUsage();
  const verdict = await verify(request(JSON.stringify(await evidenceOf()), { dataHex: 'CAFE' }));
  t.comment(`${(process.cpuUsage(cpu).user + process.cpuUsage(cpu).system) / 1000} ms CPU with the making of the evidence`);
  t.strictSame(failures(verdict), { failed: [], text: '' });
  t.equal(verdict.ok, true);
  t.equal(verdict.claims?.story.phase, 'ready');
  t.equal(verdict.claims?.reference, 'web.json');
  const text = verdictText(verdict);
  t.match(text, /^ok {4}Evidence/);
  t.match(text, /host "test host", certified by "test authority", says that the key is that of pod 8a3f2f10/);
  t.match(text, /The pod is the one that was expected\.\n$/);
  t.equal(text.split('\n').filter((line) => line.startsWith('ok  ')).length, 9);
});

t.test('CPU time of verification', async (t) => {
  const evidence = JSON.stringify(await evidenceOf());
  const references = [reference()];
  await verify(request(evidence, { references }));
  const before = process.cpuUsage();
  await verify(request(evidence, { references }));
  const { user, system } = process.cpuUsage(before);
  t.ok(user + system < 150_000, `${(user + system) / 1000} ms`);
  t.comment(`${(user + system) / 1000} ms`);
});

t.test('the same with TPMs: swtpm of a host and of a pod, tpm2_checkquote as the second opinion', async (t) => {
  const host = await startSwtpm(t);
  const pod = await startSwtpm(t);
  const certificatesPem = await certifyHostKey(authority, await createHostKey(host.transport));
  const { host: facts, disks } = samplePod();
  const launch: Measurement[] = [{ kind: 'phase', phase: 'enter' }, ...launchMeasurements({ manifest: facts.manifest, disks, policy: facts }), { kind: 'launch', error: null }, { kind: 'phase', phase: 'ready' }];
  const events = [...hostEvents(facts), ...launch.map((measurement) => eventOf(measurement))];
  for (const { pcr, digests } of events) await pod.run(pcrExtend(pcr, digests));
  const quote = await quotePod(pod.transport, quoteBinding(SAMPLE_NONCE, runtimeData));
  const evidence = buildEvidence({
    runtimeData,
    quote,
    endorsement: { ...(await endorsePodKey(host.transport, quote.keyName, SAMPLE_UUID)), certificatesPem, endorsementKeyCertificatesPem: '' },
    pcrs: await readPcrs(pod.transport, QUOTE_SELECTIONS),
    eventLog: concatBytes(encodeLogHeader(), ...events.map(({ record }) => record)),
  });
  t.strictSame(failures(await verify(request(evidence))), { failed: [], text: '' });
  t.same(predict(samplePod()).pcrs.get('sha384'), (await readPcrs(pod.transport, QUOTE_SELECTIONS)).get('sha384'), 'predicted before');
  await expectFailure(t, verify(request(evidence, { nonceHex: 'ff'.repeat(16) })), { in: 'freshness', text: /not made for this nonce/ });

  const directory = scratchDir(t, 'evidence');
  const file = (name: string, bytes: Uint8Array): string => {
    writeFileSync(join(directory, name), bytes);
    return join(directory, name);
  };
  const key2b = concatBytes(new Uint8Array([0, quote.keyPublic.length]), quote.keyPublic);
  const { status, stderr } = await pod.tool('tpm2_checkquote', ['-u', file('key', key2b), '-m', file('attest', quote.attest), '-s', file('signature', quote.signature), '-q', toHex(quoteBinding(SAMPLE_NONCE, runtimeData))]);
  t.equal(status, 0, stderr);
  t.equal(runTool('tpm2_eventlog', [file('log', Buffer.from(evidence['eventLog'] as string, 'hex'))]).stderr, '');
});

t.test('traps of quotes', async (t) => {
  const refused = async (options: Partial<SoftEvidenceOptions>, expected: { in: CheckName; text: RegExp }, change?: Partial<VerifyRequest>): Promise<void> =>
    await expectFailure(t, verify(request(await evidenceOf({}, options), change)), expected);
  const [sha256Bank, sha384Bank] = QUOTE_SELECTIONS;

  await t.test('a nonce of another quote, none, one that is too short', async (t) => {
    await refused({ nonce: new Uint8Array(16) }, { in: 'freshness', text: /not made for this nonce/ });
    await refused({ quote: { extraData: new Uint8Array(0) } }, { in: 'freshness', text: /not made for this nonce/ });
    await refused({ quote: { extraData: SAMPLE_NONCE } }, { in: 'freshness', text: /not made for this nonce/ });
    await t.rejects(verify(request({}, { nonceHex: '00' })), { code: 'USAGE', message: /nonce of 1 bytes/ });
    await t.rejects(verify(request({}, { nonceHex: '' })), { code: 'USAGE' });
  });
  await t.test('other data than is shown, or than was expected', async () => {
    await refused({ quote: { extraData: quoteBinding(SAMPLE_NONCE, { ...runtimeData, dataHex: 'beef' }) } }, { in: 'freshness', text: /this data/ });
    await refused({}, { in: 'freshness', text: /other data than expected/ }, { dataHex: 'beef' });
  });
  await t.test('a signature of something that is no quote', async () => {
    await refused({ quote: { magic: 0xff544348 } }, { in: 'quote', text: /no TPM made it/ });
    await refused({ quote: { type: 0x8017 } }, { in: 'quote', text: /structure of type 0x8017/ });
    await refused({ endorsement: { magic: 0 } }, { in: 'host', text: /no TPM made it/ });
    await refused({ endorsement: { type: 0x8019 } }, { in: 'host', text: /structure of type 0x8019/ });
  });
  await t.test('registers left out, a bank left out, the wrong bank, none', async () => {
    const without = (pcr: number): number[] => QUOTED_PCRS.filter((quoted) => quoted !== pcr);
    for (const pcr of QUOTED_PCRS) await refused({ quote: { selections: [sha256Bank!, { bank: 'sha384', pcrs: without(pcr) }] } }, { in: 'quote', text: new RegExp(`does not cover PCR ${pcr} of the sha384 bank`) });
    await refused({ quote: { selections: [sha256Bank!] } }, { in: 'quote', text: /of the sha384 bank/ });
    await refused({ quote: { selections: [sha384Bank!] } }, { in: 'quote', text: /of the sha256 bank/ });
    await refused({ quote: { selections: [{ bank: 'sha1', pcrs: QUOTED_PCRS }] } }, { in: 'quote', text: /does not cover/ });
    await refused({ quote: { selections: [] } }, { in: 'quote', text: /does not cover/ });
    await refused({ quote: { selections: [...QUOTE_SELECTIONS, { bank: 'sha1', pcrs: [0] }] } }, { in: 'quote', text: /evidence does not tell its value/ });
  });
  await t.test('a digest of other registers', async () => {
    await refused({ quote: { pcrDigest: new Uint8Array(32) } }, { in: 'quote', text: /registers in the evidence are not those/ });
  });
  await t.test('more registers than needed do no harm', async (t) => {
    const all = Array.from({ length: 24 }, (_, pcr) => pcr);
    t.strictSame(failures(await verify(request(await evidenceOf({}, { quote: { selections: [{ bank: 'sha384', pcrs: all }, { bank: 'sha256', pcrs: all }] } })))).failed, []);
  });
  await t.test('a key that could sign anything', async () => {
    const key = softKey();
    for (const [bit, text] of [[0x00010000, /not restricted/], [0x00040000, /not sign/], [0x00000002, /not fixedTpm/], [0x00000020, /not sensitiveDataOrigin/]] as const) {
      const publicArea = withAttributes(key.publicArea, (attributes) => attributes & ~bit);
      await refused({ podKey: { ...key, publicArea, name: nameOf(publicArea, 'sha256', sha256) } }, { in: 'pod-key', text });
    }
    const decrypting = withAttributes(key.publicArea, (attributes) => attributes | 0x00020000);
    await refused({ podKey: { ...key, publicArea: decrypting, name: nameOf(decrypting, 'sha256', sha256) } }, { in: 'pod-key', text: /also decrypts/ });
  });
  await t.test('a key that the host did not speak of', async () => {
    const other = softKey();
    await refused({ endorsement: { extraData: sha256(other.name) } }, { in: 'host', text: /about another key or another pod/ });
  });
});

t.test('a statement about another pod', async (t) => {
  const uuid = SAMPLE_UUID.replace('8a', '9b');
  await expectFailure(t, verify(request(await evidenceOf({}, { runtimeData: { ...runtimeData, uuid } }))), { in: 'log', text: /is about pod "8a3f/ });
});

t.test('hosts that nobody knows', async (t) => {
  const strangers = softAuthority(t);
  await expectFailure(t, verify(request(await evidenceOf(), { caPem: strangers.pem })), { in: 'host', text: /"test host" was not issued by a trusted authority/ });
  await expectFailure(t, verify(request(await evidenceOf({}, { certificatesPem: '' }))), { in: 'host', text: /no certificate of the host's key/ });
  await expectFailure(t, verify(request(await evidenceOf({}, { certificatesPem: authority.pem }))), { in: 'host', text: /not one for an attestation key/ });
  // A certificate of the right authority, but for another key than the one that signed.
  await expectFailure(t, verify(request(await evidenceOf({}, { certificatesPem: await certifyHostKey(authority, softKey().publicArea) }))), { in: 'host', text: /not signed by the key/ });
  await expectFailure(t, verify(request(await evidenceOf(), { nowMs: Date.UTC(2023, 0, 1) })), { in: 'host', text: /not valid before 2024/ });
  await t.rejects(verify(request({}, { caPem: '' })), { code: 'USAGE' });
});

t.test('traps of logs', async (t) => {
  const refused = async (log: LogOptions, expected: { in: CheckName; text: RegExp }, options: Partial<SoftEvidenceOptions> = {}): Promise<void> =>
    await expectFailure(t, verify(request(await evidenceOf(log, options))), expected);
  const { events, bytes } = podLog(samplePod());
  const logOf = (list: readonly MeasuredEvent[]): Uint8Array => concatBytes(encodeLogHeader(), ...list.map(({ record }) => record));

  await t.test('cut short, at the end of a record or within one', async () => {
    await refused({}, { in: 'registers', text: /PCR 11 of sha256 is .*the log is incomplete/ }, { log: logOf(events.slice(0, -1)), measuredLog: bytes });
    await refused({}, { in: 'log', text: /bytes expected/ }, { log: bytes.slice(0, -1), measuredLog: bytes });
    await refused({}, { in: 'registers', text: /PCR 0 of sha384/ }, { log: encodeLogHeader(), measuredLog: bytes });
  });
  await t.test('extended after the log was read, or before it was written', async () => {
    const more = concatBytes(bytes, eventOf({ kind: 'app-stop', name: 'web' }).record);
    await refused({}, { in: 'registers', text: /PCR 13 of sha256/ }, { log: bytes, measuredLog: more });
    await refused({}, { in: 'registers', text: /PCR 13 of sha384/ }, { log: more, measuredLog: bytes });
  });
  await t.test('one bank only extended', async () => {
    const halved = events.map((event) => (event.pcr === PCR.kernel && event.type === 6 ? { ...event, digests: [event.digests[0]!, { algorithm: 'sha384' as const, digest: new Uint8Array(48) }] } : event));
    const log = concatBytes(encodeLogHeader(), ...halved.map(encodeLogEvent));
    await refused({}, { in: 'log', text: /says what was not measured: its digest in sha384/ }, { log });
    await refused({}, { in: 'log', text: /no digests for the sha384 bank/ }, { log: concatBytes(encodeLogHeader(['sha256']), ...events.map((event) => encodeLogEvent({ ...event, digests: event.digests.slice(0, 1) }))), measuredLog: bytes });
  });
  await t.test('text that no digest covers', async () => {
    const kernel = events.find(({ pcr }) => pcr === PCR.kernel)!;
    const forged = Buffer.from(bytes);
    forged.set(eventOf({ kind: 'kernel', sha256: '9'.repeat(64) }).data, forged.indexOf(kernel.data));
    await refused({}, { in: 'log', text: /says what was not measured: its digest in sha256, sha384/ }, { log: forged });
    const silent = encodeLogEvent({ pcr: PCR.pod, type: 3, digests: digestsOf(new Uint8Array(0)), data: new TextEncoder().encode('all is well') });
    await refused({}, { in: 'log', text: /in the log only: no PCR covers/ }, { log: concatBytes(bytes, silent) });
  });
  await t.test('separators: missing, doubled, something behind them', async () => {
    const isSeparatorOf = (pcr: number) => (event: MeasuredEvent): boolean => event.type === 4 && event.pcr === pcr;
    await refused({ edit: (all) => all.filter((event) => !isSeparatorOf(PCR.kernel)(event)) }, { in: 'log', text: /PCR 4 has no separator/ });
    await refused({ edit: (all) => [...all, all.find(isSeparatorOf(PCR.rkt))!] }, { in: 'log', text: /comes into PCR 15 after the host had closed it/ });
    await refused({ edit: (all) => [...all, eventOf({ kind: 'kernel', sha256: '4'.repeat(64) })] }, { in: 'log', text: /comes into PCR 4 after the host had closed it/ });
    const wrong = { pcr: PCR.kernel, type: 4, data: new Uint8Array([1, 0, 0, 0]) };
    const withWrong = events.map((event) => (isSeparatorOf(PCR.kernel)(event) ? { ...wrong, digests: digestsOf(wrong.data) } : event));
    await refused({}, { in: 'log', text: /PCR 4 has no separator/ }, { log: concatBytes(encodeLogHeader(), ...withWrong.map(encodeLogEvent)) });
  });
  await t.test('order', async () => {
    const swap = (kind: (event: MeasuredEvent) => boolean) => (all: MeasuredEvent[]): MeasuredEvent[] => {
      const [first, second] = all.filter(kind) as [MeasuredEvent, MeasuredEvent];
      return all.map((event) => (event === first ? second : event === second ? first : event));
    };
    await refused({ edit: swap(({ pcr, type }) => pcr === PCR.vmm && type === 6) }, { in: 'log', text: /does not belong at this place of PCR 0/ });
    await refused({ edit: swap(({ pcr, data }) => pcr === PCR.pod && data[0] === 0x21) }, { in: 'log', text: /not the one at its place in the pod manifest/ });
    await refused({ phases: ['ready', 'enter'] }, { in: 'log', text: /not the phase "enter" that comes next/ });
    await refused({ phases: ['enter', 'ready', 'ready'] }, { in: 'log', text: /not the phase "exit" that comes next/ });
    await refused({ edit: (all) => all.filter(({ pcr, data }) => pcr !== PCR.pod || data[0] !== 0x22) }, { in: 'log', text: /no measurement of kind "launch"/ });
  });
  await t.test('after the launch nothing may look like a part of it', async () => {
    const { disks } = samplePod();
    await refused({ mutations: [{ kind: 'app', ...appOf(disks[0]!), manifestSha256: '0'.repeat(64) }] }, { in: 'log', text: /comes after the launch, where only known changes of a pod may/ });
    await refused({ mutations: [{ kind: 'launch', error: null }] }, { in: 'log', text: /comes after the launch/ });
    await refused({ edit: (all) => [...all, { ...all[0]!, pcr: PCR.pod, record: encodeLogEvent({ ...all[0]!, pcr: PCR.pod }) }] }, { in: 'log', text: /belongs into PCR 0, not 13/ });
    const unknown = { pcr: PCR.pod, type: 6, data: new Uint8Array([0xff, 0x74, 0x6b, 0x72, 0, 0, 0, 0]) };
    await refused({}, { in: 'log', text: /tag 0x726b74ff is unknown/ }, { log: concatBytes(bytes, encodeLogEvent({ ...unknown, digests: digestsOf(unknown.data) })) });
  });
  await t.test('the host measures one policy and tells the agent another', async () => {
    const toldToBeOpen = eventOf({ kind: 'agent-policy', sealed: false, insecureOptions: ['seccomp'] });
    await refused({ edit: (all) => all.map((event) => (event.pcr === PCR.pod && event.data[0] === 0x23 ? toldToBeOpen : event)) }, { in: 'log', text: /what the host told the agent is not the policy/ });
  });
  await t.test('host and guest speak of two manifests', async () => {
    const other = samplePod();
    other.host.manifest = { ...other.host.manifest, annotations: [] };
    const theirs = podLog(other).events.find(({ pcr, type }) => pcr === PCR.rkt && type === 6)!;
    await refused({ edit: (all) => all.map((event) => (event.pcr === PCR.rkt && event.type === 6 ? theirs : event)) }, { in: 'log', text: /manifest that the host measured is not the one/ });
  });
  await t.test('what the guest puts into registers of its own does no harm', async (t) => {
    const own = { pcr: 23, type: 13, data: new TextEncoder().encode('mine') };
    const log = concatBytes(bytes, encodeLogEvent({ ...own, digests: digestsOf(new Uint8Array(1)) }));
    t.strictSame(failures(await verify(request(await evidenceOf({}, { log })))).failed, []);
  });
});

/** An app's measurement without what is derived. */
function appOf({ app, imageId, rootHash }: { app: string; imageId: string; rootHash: string }): { name: string; imageId: string; rootHash: string } {
  return { name: app, imageId, rootHash };
}

t.test('a change of one digit or word is named, in its event', async (t) => {
  type Input = ReturnType<typeof samplePod>;
  const flipped = (digest: string): string => `${digest.slice(0, -1)}0`;
  const manifestWith = (input: Input, from: string, to: string): void => {
    input.host.manifest = JSON.parse(JSON.stringify(input.host.manifest).replace(from, to)) as JsonObject;
  };
  const changes: Record<string, { change(input: Input): void; pcr: number; text: RegExp }> = {
    'VMM': { change: ({ host }) => (host.vmm = { ...host.vmm, sha256: flipped(host.vmm.sha256) }), pcr: 0, text: /^vmm: sha256 is / },
    'firmware': { change: ({ host }) => (host.firmware = [{ name: 'qboot.rom', sha256: flipped('2'.repeat(64)) }]), pcr: 0, text: /^firmware: sha256 is / },
    'one more firmware': { change: ({ host }) => (host.firmware = [...host.firmware, { name: 'x', sha256: '2'.repeat(64) }]), pcr: 0, text: /^firmware: not in the reference/ },
    'memory': { change: ({ host }) => (host.configuration = { ...host.configuration, memoryMiB: 512 }), pcr: 0, text: /^vmm-configuration: configuration.memoryMiB is 512, expected 256/ },
    'kernel': { change: ({ host }) => (host.kernelSha256 = flipped(host.kernelSha256)), pcr: 4, text: /^kernel: sha256 is "4{63}0", expected "4{64}"/ },
    'initramfs': { change: ({ host }) => (host.initramfsSha256 = flipped(host.initramfsSha256)), pcr: 9, text: /^initramfs: / },
    'command line': { change: ({ host }) => (host.commandLine += ' init=/bin/sh'), pcr: 12, text: /^command-line: text is "quiet console=ttyS0 init=\/bin\/sh"/ },
    'sealing': { change: ({ host }) => (host.sealed = false), pcr: 5, text: /^policy: sealed is false, expected true/ },
    'insecure options': { change: ({ host }) => (host.insecureOptions = ['seccomp', 'paths']), pcr: 5, text: /^policy: insecureOptions\[0\] is "paths", expected "seccomp"/ },
    'argument of an app': { change: (input) => manifestWith(input, '--verbose', '--verbosf'), pcr: 13, text: /^pod-manifest: manifest.apps\[0\].app.exec\[1\] is "--verbosf", expected "--verbose"/m },
    'environment of an app': { change: (input) => manifestWith(input, 'hunter2', 'hunter3'), pcr: 13, text: /^pod-manifest: manifest.apps\[0\].app.environment\[0\].sha256 is/m },
    'user of an app': { change: (input) => manifestWith(input, '"user":"0"', '"user":"1"'), pcr: 13, text: /^pod-manifest: manifest.apps\[0\].app.user is "1", expected "0"/m },
    'disk of an app': { change: (input) => (input.disks = [{ ...input.disks[0]!, rootHash: flipped('c'.repeat(64)) }, input.disks[1]!]), pcr: 13, text: /^app: rootHash is/m },
  };
  for (const [what, { change, pcr, text }] of Object.entries(changes)) {
    const input = samplePod();
    change(input);
    const verdict = await verify(request(await softEvidence({ authority, log: podLog(input).bytes, runtimeData, nonce: SAMPLE_NONCE })));
    const result = failures(verdict);
    t.strictSame(result.failed, ['reference'], what);
    t.match(result.text, text, what);
    const { findings } = verdict.checks.find(({ name }) => name === 'reference')!;
    const events = findings.map(({ event }) => verdict.claims!.log.entries[event ?? -1]?.event.pcr);
    // The host's policy is also what it tells the agent.
    t.ok(events.includes(pcr) && events.every((found) => found === pcr || (pcr === PCR.policy && found === PCR.pod)), `${what}: PCR ${events.join()}`);
    t.match(verdictText(verdict), new RegExp(`FAIL {2}Reference.*event \\d+ \\(PCR ${pcr}\\)`), what);
  }
});

t.test('references', async (t) => {
  const evidence = await evidenceOf();
  const other = { ...reference(({ host }) => (host.kernelSha256 = '0'.repeat(64))), name: 'old.json' };
  const far = { ...reference(({ host }) => Object.assign(host, { kernelSha256: '0'.repeat(64), commandLine: '' })), name: 'far.json' };
  t.equal((await verify(request(evidence, { references: [far, other, reference()] }))).claims?.reference, 'web.json');
  await expectFailure(t, verify(request(evidence, { references: [far, other] })), { in: 'reference', text: /^old\.json: kernel/ });
  await expectFailure(t, verify(request(evidence, { references: [] })), { in: 'reference', text: /no reference/ });
  const anyPod = reference(({ host }) => (host.uuid = null));
  t.strictSame(failures(await verify(request(evidence, { references: [anyPod] }))).failed, [], 'one without a UUID is for every pod of the kind');
  const failedLaunch = await evidenceOf({ edit: (all) => all.map((event) => (event.pcr === PCR.pod && event.data[0] === 0x22 ? eventOf({ kind: 'launch', error: 'no such file' }) : event)) });
  await expectFailure(t, verify(request(failedLaunch)), { in: 'reference', text: /launch: error is "no such file", expected null/ });
});

t.test('policies', async (t) => {
  const policy = (fields: JsonObject): VerifyRequest['policy'] => parsePolicy({ format: 'rkt-policy', formatVersion: 1, ...fields });
  const check = async (fields: JsonObject, log: LogOptions = {}): Promise<string> => failures(await verify(request(await evidenceOf(log), { policy: policy(fields) }))).text;
  const entered: LogOptions = { mutations: [{ kind: 'enter', app: 'web', command: ['sh'] }] };
  t.equal(await check({ requireSealed: true, insecureOptions: ['seccomp'], images: [`sha512-${'a'.repeat(64)}`, `sha512-${'b'.repeat(64)}`], accelerators: ['tcg'], pods: [SAMPLE_UUID], phases: ['ready'] }), '');
  t.match(await check({ insecureOptions: [] }), /insecure option "seccomp" is not among those/);
  t.match(await check({ images: [] }), /image "sha512-aaa/);
  t.match(await check({ rootHashes: ['c'.repeat(64)] }), /disk with root hash "ddd/);
  t.match(await check({ accelerators: ['kvm'] }), /accelerator "tcg"/);
  t.match(await check({ pods: ['x'] }), /pod "8a3f/);
  t.match(await check({ phases: ['ready'] }, { phases: ['enter'] }), /phase "enter"/);
  t.match(await check({}, { mutations: [{ kind: 'app-add', name: 'x', imageId: 'i', rootHash: '0'.repeat(64), manifest: {} }] }), /does not allow this change: app "x" added/);
  t.equal(await check({ mutations: ['enter'] }, entered), '');
  const withoutPolicy = failures(await verify(request(await evidenceOf(entered))));
  t.strictSame(withoutPolicy.failed, ['policy'], 'a pod that somebody entered is not the one that was predicted');
  t.match(withoutPolicy.text, /the host ran "sh" in app "web"/);
  const open = samplePod();
  open.host.sealed = false;
  const references = [parseReference(referenceDocument(predict(open)))];
  const unsealed = await softEvidence({ authority, log: podLog(open).bytes, runtimeData, nonce: SAMPLE_NONCE });
  t.match(failures(await verify(request(unsealed, { references, policy: policy({ requireSealed: true }) }))).text, /not sealed/);
  for (const fields of [{ requiresealed: true }, { mutations: ['everything'] }, { phases: 'ready' }, { formatVersion: 2 }, { requireSealed: 'yes' }] as readonly JsonObject[]) t.throws(() => policy(fields), { code: 'BAD_INPUT' });
});

t.test('documents that are none', async (t) => {
  const evidence = await evidenceOf();
  const without = (name: string): JsonObject => Object.fromEntries(Object.entries(evidence).filter(([key]) => key !== name)) as JsonObject;
  for (const broken of ['', '{', '[]', null, 7, {}, without('quote'), without('pcrs'), { ...evidence, formatVersion: 2 }, { ...evidence, eventLog: 'zz' }, { ...evidence, pcrs: { sha256: { 24: '' } } }, { ...evidence, pcrs: { sha256: { 0: '00' } } }]) {
    const { failed } = failures(await verify(request(broken)));
    t.ok(failed.includes('evidence'));
    t.equal(failed.length, 9, 'nothing is called checked');
  }
});

t.test("Trustee's shape", async (t) => {
  const { ak_public: key, tpm_quote: quote } = trusteeEvidence(parseEvidence(await evidenceOf()));
  t.equal(quote.pcrs.length, 24);
  t.ok(quote.pcrs.every((value) => value.length === 64));
  t.equal(Buffer.from(quote.message, 'base64').readUInt32BE(0), 0xff544347);
  t.equal(Buffer.from(key, 'base64')[0], 0x30);
});
