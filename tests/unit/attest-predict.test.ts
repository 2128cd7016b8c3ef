/** Predictions and the forms they are given away in. */
import t from 'tap';
import { parseReference, pcrlockJson, predict, referenceDocument, rvpsJson } from '../../src/attest/index.ts';
import { initialPcr, parseEventLog, QUOTED_PCRS, replay, toHex, type JsonObject } from '../../src/tpm/index.ts';
import { podLog, SAMPLE_SECRET, samplePod } from '../helpers/sample-pod.ts';
import { extended } from '../../src/tpm/pcr.ts';

t.test('the registers of a pod are those its log gives', (t) => {
  const { pcrs, phasePcrs } = predict(samplePod());
  for (const phases of [['enter'], ['enter', 'ready'], ['enter', 'ready', 'exit']] as const) {
    const real = replay(parseEventLog(podLog(samplePod(), { phases }).bytes));
    for (const bank of ['sha256', 'sha384'] as const) {
      for (const pcr of QUOTED_PCRS) {
        const expected = pcr === 11 ? phasePcrs[phases.at(-1)!] : pcrs;
        t.same(expected.get(bank)?.get(pcr), real.get(bank)?.get(pcr), `${bank} ${pcr}`);
        t.notSame(expected.get(bank)?.get(pcr), initialPcr(bank, pcr));
      }
    }
  }
  t.end();
});

t.test('without a UUID everything but its register is known', (t) => {
  const input = samplePod();
  input.host.uuid = null;
  const { pcrs } = predict(input);
  t.strictSame([...(pcrs.get('sha256')?.keys() ?? [])], QUOTED_PCRS.filter((pcr) => pcr !== 15));
  t.same(pcrs.get('sha256')?.get(13), predict(samplePod()).pcrs.get('sha256')?.get(13));
  t.end();
});

t.test('the order of insecure options does not matter, nor that one is given twice', (t) => {
  const one = samplePod();
  const other = samplePod();
  one.host.insecureOptions = ['paths', 'seccomp'];
  other.host.insecureOptions = ['seccomp', 'paths', 'seccomp'];
  t.strictSame(predict(one).pcrs, predict(other).pcrs);
  t.end();
});

t.test('reference documents', async (t) => {
  const prediction = predict(samplePod());
  const document = referenceDocument(prediction);
  t.test('are read back', (t) => {
    t.strictSame(parseReference(JSON.stringify(document), 'x.json'), { name: 'x.json', measurements: prediction.measurements });
    t.notMatch(JSON.stringify(document), SAMPLE_SECRET);
    t.end();
  });
  t.test('that do not agree with themselves, or are none, are refused', (t) => {
    const text = JSON.stringify(document);
    const { pcrs: _pcrs, ...unregistered } = document;
    t.ok(parseReference(unregistered).measurements.length > 0, 'registers may be left out');
    const broken: Record<string, unknown> = {
      'another kernel, the old registers': text.replace('4'.repeat(64), '3'.repeat(64)),
      'other registers': { ...document, pcrs: { sha256: { 4: '0'.repeat(64) } } },
      'a change of a pod': { ...unregistered, measurements: [{ kind: 'enter', app: 'x', command: [] }] },
      'an unknown kind': { ...unregistered, measurements: [{ kind: 'everything' }] },
      'no kind': { ...unregistered, measurements: [{}] },
      'no object': { ...unregistered, measurements: ['kernel'] },
      'no list': { ...unregistered, measurements: {} },
      'a missing field': { ...unregistered, measurements: [{ kind: 'kernel' }] },
      'another format': { ...document, format: 'rkt-policy' },
    };
    for (const [what, value] of Object.entries(broken)) t.throws(() => parseReference(value, 'x.json'), { name: 'RktError', code: 'BAD_INPUT', message: /^x\.json: / }, what);
    t.end();
  });
});

t.test('records of systemd-pcrlock give the same registers', (t) => {
  const prediction = predict(samplePod());
  const { records } = JSON.parse(pcrlockJson(prediction)) as { records: { pcr: number; digests: { hashAlg: string; digest: string }[] }[] };
  const values = new Map<string, Uint8Array>();
  for (const { pcr, digests } of records) {
    for (const { hashAlg, digest } of digests) {
      const bank = hashAlg as 'sha256' | 'sha384';
      values.set(`${bank} ${pcr}`, extended(bank, values.get(`${bank} ${pcr}`) ?? initialPcr(bank, pcr), new Uint8Array(Buffer.from(digest, 'hex'))));
    }
  }
  for (const [bank, pcrs] of prediction.pcrs) for (const [pcr, value] of pcrs) t.same(values.get(`${bank} ${pcr}`), value);
  t.end();
});

t.test("values for Trustee's reference value provider", (t) => {
  const { version, type, payload } = JSON.parse(rvpsJson(predict(samplePod()))) as Record<string, string>;
  t.strictSame([version, type], ['0.1.0', 'sample']);
  const values = JSON.parse(Buffer.from(payload!, 'base64').toString()) as JsonObject;
  t.strictSame(values['pcr04'], [toHex(predict(samplePod()).pcrs.get('sha256')!.get(4)!)]);
  t.equal((values['pcr15_sha384'] as string[])[0]?.length, 96);
  t.end();
});
