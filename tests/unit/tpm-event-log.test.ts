/** Event logs: writer and reader are each other's inverse, tpm2_eventlog agrees, and swtpm's PCRs are what a replay gives. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ByteWriter } from '../../src/tpm/bytes.ts';
import { encodeTaggedEvent, EVENT_DATA_LIMIT_BYTES, parseTaggedEvent } from '../../src/tpm/event-log.ts';
import { eventTypeName } from '../../src/tpm/event-types.ts';
import { celJson, concatBytes, digestsOf, encodeLogEvent, encodeLogHeader, eventOf, initialPcr, jsonSequence, parseEventLog, parsePodLog, pcrExtend, POD_BANKS, podLogText, QUOTE_SELECTIONS, readPcrs, replay, toHex, type LogEvent, type TaggedDigest } from '../../src/tpm/index.ts';
import { podLog, samplePod } from '../helpers/sample-pod.ts';
import { seededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { runTool, startSwtpm } from '../helpers/swtpm.ts';

t.test('what is written is what is read', (t) => {
  const random = seededRandom(7);
  for (let round = 0; round < 300; round++) {
    const events = Array.from({ length: random.below(8) }, (): LogEvent => {
      const data = random.bytes(random.below(200));
      return { pcr: random.below(24), type: random.pick([3, 4, 6, 0x80000001, random.below(2 ** 32)]), digests: digestsOf(data), data };
    });
    const bytes = concatBytes(encodeLogHeader(), ...events.map(encodeLogEvent));
    const log = parseEventLog(bytes);
    t.strictSame({ algorithms: log.algorithms, events: log.events }, { algorithms: POD_BANKS, events });
    // Not at the end of a record: refused, never a shorter log.
    const cut = bytes.length - 1 - random.below(11);
    if (events.length > 0) t.throws(() => parseEventLog(bytes.subarray(0, cut)), { code: 'BAD_INPUT' });
  }
  t.end();
});

t.test('tagged events', (t) => {
  const content = new TextEncoder().encode('{}');
  const event: LogEvent = { pcr: 13, type: 6, digests: [], data: encodeTaggedEvent({ tag: 0x726b7420, content }) };
  t.same(parseTaggedEvent(event), { tag: 0x726b7420, content });
  for (const data of [event.data.slice(0, -1), concatBytes(event.data, content), content]) t.equal(parseTaggedEvent({ ...event, data }), null);
  t.equal(parseTaggedEvent({ ...event, type: 4 }), null);
  t.end();
});

t.test('logs that are refused', (t) => {
  const header = encodeLogHeader();
  const record = encodeLogEvent({ pcr: 1, type: 6, digests: digestsOf(new Uint8Array(4)), data: new Uint8Array(4) });
  const patched = (bytes: Uint8Array, at: number, ...values: number[]): Uint8Array => {
    const copy = bytes.slice();
    copy.set(values, at);
    return copy;
  };
  const SPEC_ID = 32;
  const FIRST_ALGORITHM = SPEC_ID + 28;
  const broken: Record<string, Uint8Array> = {
    'nothing': new Uint8Array(0),
    'no Spec ID event first': record,
    'another signature': patched(header, SPEC_ID, 0x53, 0x70, 0x65, 0x63, 0x20, 0x49, 0x44, 0x20, 0x45, 0x76, 0x65, 0x6e, 0x74, 0x30, 0x32),
    'another version': patched(header, SPEC_ID + 21, 1),
    'a header with a digest': patched(header, 8, 1),
    'an unknown algorithm': patched(header, FIRST_ALGORITHM, 0xff),
    'a wrong digest size': patched(header, FIRST_ALGORITHM + 2, 20),
    'an algorithm twice': patched(header, FIRST_ALGORITHM + 4, 0x0b, 0, 32),
    'no algorithm': encodeLogHeader([]),
    'vendor information that is not there': patched(header, header.length - 1, 9),
    'PCR 24': concatBytes(header, patched(record, 0, 24)),
    'a digest too few': concatBytes(header, patched(record, 8, 1)),
    'a bank left out': concatBytes(header, encodeLogEvent({ pcr: 1, type: 6, digests: digestsOf(new Uint8Array(4)).slice(1), data: new Uint8Array(4) })),
    'an unlisted algorithm': concatBytes(header, patched(record, 12, 0x04)),
    'the same bank twice': concatBytes(header, encodeLogEvent({ pcr: 1, type: 6, digests: new Array<TaggedDigest>(2).fill(digestsOf(new Uint8Array(4))[0]!), data: new Uint8Array(4) })),
    'event data beyond the end': concatBytes(header, patched(record, record.length - 8, 5)),
    'event data beyond any limit': concatBytes(header, patched(record, record.length - 8, 0xff, 0xff, 0xff, 0xff)),
  };
  for (const [what, bytes] of Object.entries(broken)) t.throws(() => parseEventLog(bytes), { name: 'RktError', code: 'BAD_INPUT' }, what);
  t.equal(parseEventLog(concatBytes(header, record)).events.length, 1, 'the one they were made from is sound');
  t.throws(() => parsePodLog(encodeLogHeader(['sha256'])), { code: 'BAD_INPUT', message: /no digests for the sha384 bank/ });
  t.throws(() => encodeLogEvent({ pcr: 0, type: 6, digests: [], data: new Uint8Array(EVENT_DATA_LIMIT_BYTES + 1) }), { code: 'LIMIT' });
  t.throws(() => parseEventLog(concatBytes(header, ...new Array<Uint8Array>(65_537).fill(record))), { code: 'LIMIT' });
  t.end();
});

t.test("a pod's log", async (t) => {
  const tpm = await startSwtpm(t);
  const { events, bytes } = podLog(samplePod(), { mutations: [{ kind: 'enter', app: 'web', command: ['sh', '-c', 'a\n\u202eb'] }] });
  for (const { pcr, digests } of events) await tpm.run(pcrExtend(pcr, digests));
  const path = join(scratchDir(t, 'log'), 'log');
  writeFileSync(path, bytes);

  await t.test('is read by tpm2_eventlog without a word, and gives the PCRs that swtpm has', async (t) => {
    const values = await readPcrs(tpm.transport, QUOTE_SELECTIONS);
    const replayed = replay(parseEventLog(bytes));
    const { status, stdout, stderr } = runTool('tpm2_eventlog', [path]);
    t.equal(status, 0);
    t.equal(stderr, '');
    const printed = stdout.slice(stdout.indexOf('pcrs:'));
    const [sha256Text = '', sha384Text = ''] = printed.split('sha384:');
    for (const { bank, pcrs } of QUOTE_SELECTIONS) {
      for (const pcr of pcrs) {
        const value = toHex(values.get(bank)!.get(pcr)!);
        t.equal(toHex(replayed.get(bank as 'sha256')!.get(pcr)!), value, `${bank} ${pcr}`);
        t.match(bank === 'sha256' ? sha256Text : sha384Text, new RegExp(`\\b${pcr} *: 0x${value}\\b`), `${bank} ${pcr}`);
      }
    }
    t.equal(runTool('tpm2_eventlog', ['--eventlog-version=2', path]).stderr, '');
  });

  t.test('is told in words, on one line an event, nothing of which reaches a terminal raw', (t) => {
    const text = podLogText(parsePodLog(bytes));
    t.equal(text.split('\n').length, events.length + 1);
    t.match(text, /PCR 13 .* the host ran "sh" "-c" "a\\nb|PCR 13 .*"a\\n\\u\{202e\}b" in app "web"/);
    t.match(text, /kernel, SHA-256 4444/);
    t.match(text, /sealed, insecure options "seccomp"/);
    t.notMatch(text, /\u202e|hunter2|NOT MEASURED/);
    t.end();
  });

  t.test('is exported as CEL and as a JSON sequence', (t) => {
    const records = JSON.parse(celJson(parseEventLog(bytes))) as { recnum: number; pcr: number; digests: { hashAlg: string; digest: string }[]; content: { event_type: string; event_data: string } }[];
    t.strictSame(records.map(({ recnum }) => recnum), events.map((_, i) => i));
    t.strictSame(records.map(({ content }) => content.event_data), events.map(({ data }) => toHex(data)));
    t.strictSame(records[0]?.digests.map(({ hashAlg, digest }) => [hashAlg, digest.length]), [['sha256', 64], ['sha384', 96]]);
    const sequence = jsonSequence(parseEventLog(bytes)).split('\u001e').slice(1);
    t.equal(sequence.length, events.length);
    for (const record of sequence) t.equal((JSON.parse(record) as { content_type: string }).content_type, 'pcclient_std');
    t.end();
  });
});

t.test('an event of several hundred kilobytes', (t) => {
  const path = join(scratchDir(t, 'log'), 'log');
  const event = eventOf({ kind: 'pod-manifest', manifest: { apps: [], text: 'x'.repeat(300_000) } });
  writeFileSync(path, concatBytes(encodeLogHeader(), event.record));
  const { status, stderr } = runTool('tpm2_eventlog', [path]);
  t.equal(status, 0);
  t.equal(stderr, '');
  t.end();
});

t.test('logs of firmware: start-up locality, dynamic PCRs, types by name', (t) => {
  const locality = encodeLogEvent({ pcr: 0, type: 3, digests: digestsOf(new Uint8Array(0)), data: new TextEncoder().encode('StartupLocality\0\u0003') });
  const values = replay(parseEventLog(concatBytes(encodeLogHeader(), locality)));
  t.equal(toHex(values.get('sha256')!.get(0)!), `${'00'.repeat(31)}03`);
  t.equal(toHex(values.get('sha384')!.get(17)!), 'ff'.repeat(48));
  t.same(initialPcr('sha256', 13), new Uint8Array(32));
  t.throws(() => replay(parseEventLog(concatBytes(encodeLogHeader(['sha1', 'sha384']), new ByteWriter('little').u32(0).u32(6).u32(2).u16(4).raw(new Uint8Array(20)).u16(12).raw(new Uint8Array(48)).u32(0).bytes))), { code: 'BAD_INPUT' });
  t.equal(eventTypeName(0x80000008), 'EV_EFI_PLATFORM_FIRMWARE_BLOB');
  t.equal(eventTypeName(0x1234), '0x00001234');
  t.end();
});
