/** What is measured, and that it can be said in one way only. */
import { createHash } from 'node:crypto';
import t from 'tap';
import { encodeTaggedEvent, type LogEvent } from '../../src/tpm/event-log.ts';
import { canonicalJson, digestsOf, eventOf, explain, hostEvents, launchMeasurements, measuredPodManifest, measurementOf, parsePodLog, PCR, toHex, type Json, type JsonObject, type Measurement } from '../../src/tpm/index.ts';
import { podLog, SAMPLE_SECRET, samplePod } from '../helpers/sample-pod.ts';
import { seededRandom } from '../helpers/random.ts';

t.test('canonical JSON', async (t) => {
  t.test('as in the examples of RFC 8785', (t) => {
    t.equal(canonicalJson({ '\u20ac': 'Euro Sign', '\r': 'Carriage Return', '\ufb33': 'Hebrew Letter Dalet With Dagesh', '1': 'One', '\ud83d\ude00': 'Emoji: Grinning Face', '\u0080': 'Control', '\u00f6': 'Latin Small Letter O With Diaeresis' }),
      '{"\\r":"Carriage Return","1":"One","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis","\u20ac":"Euro Sign","\ud83d\ude00":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}');
    t.equal(canonicalJson({ numbers: [333333333.33333329, 1e30, 4.5, 2e-3, 0.000000000000000000000000001], string: '\u20ac$\u000f\u000aA\'\u0042\u0022\u005c\\"/', literals: [null, true, false] }),
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}');
    t.equal(canonicalJson([-0, 1e21, 5e-324]), '[0,1e+21,5e-324]');
    t.end();
  });

  t.test('does not depend on the order of fields', (t) => {
    const random = seededRandom(3);
    const value = (depth: number): Json => {
      switch (random.below(depth > 3 ? 4 : 6)) {
        case 0: return null;
        case 1: return random.below(2) === 0;
        case 2: return random.below(1e9) / 1000 - 5000;
        case 3: return String.fromCodePoint(random.below(0x300), random.below(0xd800));
        case 4: return Array.from({ length: random.below(4) }, () => value(depth + 1));
        default: return Object.fromEntries(Array.from({ length: random.below(5) }, () => [String.fromCharCode(random.below(0xd800)), value(depth + 1)]));
      }
    };
    const reversed = (json: Json): Json => (Array.isArray(json) ? json.map(reversed) : typeof json === 'object' && json !== null ? Object.fromEntries(Object.entries(json as JsonObject).reverse().map(([key, item]) => [key, reversed(item)])) : json);
    for (let round = 0; round < 500; round++) {
      const json = value(0);
      const text = canonicalJson(json);
      t.equal(canonicalJson(reversed(json)), text);
      t.strictSame(JSON.parse(text), JSON.parse(JSON.stringify(json)));
    }
    t.end();
  });

  t.test('refuses what has none', (t) => {
    const deep = JSON.parse(`${'['.repeat(100)}${']'.repeat(100)}`) as Json;
    for (const value of [Number.NaN, Infinity, '\ud800', '\udc00x', { '\ud800': 1 }, deep, (() => 1) as unknown as Json, 1n as unknown as Json]) t.throws(() => canonicalJson(value), { code: 'BAD_INPUT' });
    t.equal(canonicalJson({ a: undefined as unknown as Json, b: 1 }), '{"b":1}');
    t.end();
  });
});

/** One of each kind. */
const SAMPLES: readonly Measurement[] = [
  ...podLog(samplePod()).events.filter(({ type }) => type === 6).map((event) => measurementOf(event)),
  { kind: 'phase', phase: 'exit' },
  { kind: 'launch', error: 'no such file' },
  { kind: 'enter', app: 'web', command: ['sh'] },
  { kind: 'attach', app: 'web', stream: 'stdin' },
  { kind: 'copy', app: 'web', direction: 'out', path: '/etc' },
  { kind: 'app-add', name: 'x', imageId: 'sha512-0', rootHash: '0'.repeat(64), manifest: { name: 'x' } },
  { kind: 'app-start', name: 'x' },
  { kind: 'app-stop', name: 'x' },
  { kind: 'app-remove', name: 'x' },
  { kind: 'volume-add', volume: { name: 'v', kind: 'empty' } },
];

t.test('each measurement is read back from its event, and has words', (t) => {
  for (const measurement of SAMPLES) {
    const event = eventOf(measurement);
    t.strictSame(measurementOf(event), measurement, measurement.kind);
    t.ok(explain(measurement).length > 3);
    t.same(event.digests, digestsOf(event.data));
    t.equal(toHex(event.digests[0]!.digest), createHash('sha256').update(event.data).digest('hex'), 'the digest is that of the whole event');
  }
  t.equal(new Set(SAMPLES.map(({ kind }) => kind)).size, 21, 'all kinds');
  t.end();
});

t.test('where each is measured', (t) => {
  const where = (kind: Measurement['kind']): number => eventOf(SAMPLES.find((measurement) => measurement.kind === kind)!).pcr;
  t.strictSame([where('vmm'), where('firmware'), where('vmm-configuration'), where('kernel'), where('policy'), where('initramfs'), where('command-line'), where('pod'), where('phase'), where('pod-manifest'), where('app'), where('launch'), where('enter')],
    [0, 0, 0, 4, 5, 9, 12, 15, 11, 13, 13, 13, 13]);
  t.end();
});

function withContent(tag: number, content: string | Uint8Array, pcr: number = PCR.pod): LogEvent {
  const data = encodeTaggedEvent({ tag, content: typeof content === 'string' ? new TextEncoder().encode(content) : content });
  return { pcr, type: 6, digests: digestsOf(data), data };
}

t.test('an event that says the same in another way is none', (t) => {
  const START = 0x726b7434;
  t.strictSame(measurementOf(withContent(START, '{"name":"x"}')), { kind: 'app-start', name: 'x' });
  const others: Record<string, LogEvent> = {
    'spaces': withContent(START, '{"name": "x"}'),
    'an escape that is not needed': withContent(START, '{"name":"\\u0078"}'),
    'a double key': withContent(START, '{"name":"y","name":"x"}'),
    'a byte order mark': withContent(START, '\ufeff{"name":"x"}'),
    'bytes that are no UTF-8': withContent(START, new Uint8Array([...new TextEncoder().encode('{"name":"'), 0xff, 0x22, 0x7d])),
    'one more field': withContent(START, '{"name":"x","text":"and more"}'),
    'a field of another type': withContent(START, '{"name":1}'),
    'a missing field': withContent(START, '{}'),
    'no object': withContent(START, '[]'),
    'no JSON': withContent(START, 'name=x'),
    'another PCR': withContent(START, '{"name":"x"}', PCR.rkt),
    'an unknown tag': withContent(0x726b74ff, '{"name":"x"}'),
    'a digest in capitals': withContent(0x726b7404, `{"sha256":"${'A'.repeat(64)}"}`, PCR.kernel),
    'a field of all objects': withContent(START, '{"constructor":"x"}'),
  };
  for (const [what, event] of Object.entries(others)) t.throws(() => measurementOf(event), { name: 'RktError', code: 'BAD_INPUT' }, what);
  t.throws(() => eventOf({ kind: 'toString' } as unknown as Measurement), { code: 'BAD_INPUT' });
  t.end();
});

t.test("environments are measured without showing a value", (t) => {
  const { manifest } = samplePod().host;
  const measured = measuredPodManifest(manifest);
  t.notMatch(canonicalJson(measured), SAMPLE_SECRET);
  t.notMatch(Buffer.from(podLog(samplePod()).bytes).toString('latin1'), SAMPLE_SECRET);
  const [app] = measured['apps'] as unknown as [{ app: { environment: unknown } }];
  t.strictSame(app.app.environment, [
    { name: 'PASSWORD', sha256: createHash('sha256').update(`PASSWORD=${SAMPLE_SECRET}`).digest('hex') },
    { name: 'LANG', sha256: createHash('sha256').update('LANG=C').digest('hex') },
  ]);
  const changed = JSON.parse(JSON.stringify(manifest).replace(SAMPLE_SECRET, 'hunter3')) as JsonObject;
  t.not(canonicalJson(measuredPodManifest(changed)), canonicalJson(measured), 'but a change of a value shows');
  t.match(canonicalJson(manifest), SAMPLE_SECRET, 'and the manifest itself is as it was');
  for (const environment of [{ PASSWORD: 'x' }, ['PASSWORD=x'], [{ name: 'PASSWORD', value: 'x', more: 'y' }], [{ name: 'PASSWORD' }]]) {
    t.throws(() => measuredPodManifest({ apps: [{ name: 'web', app: { environment } }] } as JsonObject), { code: 'BAD_INPUT' }, 'an environment of another form is not measured as text');
  }
  t.throws(() => measuredPodManifest({}), { code: 'BAD_INPUT' });
  t.end();
});

t.test('disks and apps belong together', (t) => {
  const { host, disks } = samplePod();
  t.throws(() => launchMeasurements({ manifest: host.manifest, disks: disks.slice(1), policy: host }), { code: 'BAD_INPUT' });
  t.throws(() => launchMeasurements({ manifest: host.manifest, disks: [...disks].reverse(), policy: host }), { code: 'BAD_INPUT', message: /apps\[0\]/ });
  t.end();
});

t.test('other implementations of the hashes may take the place of ours', (t) => {
  const hashes = { sha256: (data: Uint8Array) => new Uint8Array(createHash('sha256').update(data).digest()), sha384: (data: Uint8Array) => new Uint8Array(createHash('sha384').update(data).digest()) };
  const { host } = samplePod();
  t.same(hostEvents(host, hashes), hostEvents(host));
  t.end();
});

t.test('text that the digest does not cover is seen', (t) => {
  const { events } = podLog(samplePod());
  const kernel = events.find(({ pcr }) => pcr === PCR.kernel)!;
  const other = eventOf({ kind: 'kernel', sha256: '0'.repeat(64) });
  const { bytes } = podLog(samplePod());
  t.strictSame(parsePodLog(bytes).entries.flatMap(({ uncoveredBanks }) => uncoveredBanks), []);
  const forged = Buffer.from(bytes);
  forged.set(other.data, forged.indexOf(kernel.data));
  t.strictSame(parsePodLog(forged).entries.filter(({ uncoveredBanks }) => uncoveredBanks.length > 0).map(({ event, uncoveredBanks }) => [event.pcr, uncoveredBanks]), [[PCR.kernel, ['sha256', 'sha384']]]);
  t.end();
});
