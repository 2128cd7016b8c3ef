/**
 * Bytes from outside, made from sound ones by seeded mutation: event logs, quotes, signatures, keys, answers of TPMs, commands of
 * guests, notes, certificates and whole evidence. Reading ends with a value or an RktError: never with another error or a hang.
 * RKT_FUZZ_INPUTS=N tries N inputs from a seed of its own, which is printed.
 */
import t, { type Test } from 'tap';
import { keyKindOf, encodePublicKeyInfo } from '../../src/attest/public-key-info.ts';
import { parseCertificate, parseCertificates, parseEvidence, parsePolicy, parseReference, predict, referenceDocument, verify } from '../../src/attest/index.ts';
import { readStory } from '../../src/attest/pod-story.ts';
import { concatBytes, createPrimary, attestationKeyTemplate, encodePending, fromHex, getPcrBanks, guestMay, parseAttestedQuote, parseEventLog, parsePcrExtend, parsePending, parsePodLog, parsePublicArea, parseSignature, pcrExtend, pcrRead, podLogText, quote, QUOTE_SELECTIONS, readPublic, replay, celJson, digestsOf, TPM_RH, type JsonObject, type TpmCommand } from '../../src/tpm/index.ts';
import { podLog, SAMPLE_UUID, samplePod } from '../helpers/sample-pod.ts';
import { seededRandom, type SeededRandom } from '../helpers/random.ts';
import { certifyHostKey, encodeAttest, SAMPLE_NONCE, softAuthority, softEvidence, softKey } from '../helpers/soft-tpm.ts';
import { startSwtpm } from '../helpers/swtpm.ts';

const ROUNDS = 5_000;
const MAX_INPUT_MS = 2000;

interface Target {
  name: string;
  seeds: readonly Uint8Array[];
  read(bytes: Uint8Array): unknown;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const bytesOf = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** Answers of a real TPM with the commands they answer. */
async function answers(t: Test): Promise<{ command: TpmCommand<unknown>; answer: Uint8Array }[]> {
  const tpm = await startSwtpm(t);
  const key = await tpm.run(createPrimary(TPM_RH.null, attestationKeyTemplate('ecc-p256')));
  const commands: TpmCommand<unknown>[] = [
    getPcrBanks(), pcrRead(QUOTE_SELECTIONS), pcrExtend(13, digestsOf(new Uint8Array(1))), readPublic(key.handle),
    quote({ keyHandle: key.handle, qualifyingData: new Uint8Array(32), selections: QUOTE_SELECTIONS }), createPrimary(TPM_RH.null, attestationKeyTemplate('rsa-2048')),
  ];
  const results = [];
  for (const command of commands) results.push({ command, answer: await tpm.transport(command.bytes) });
  return results;
}

async function targets(t: Test): Promise<Target[]> {
  const log = podLog(samplePod(), { mutations: [{ kind: 'enter', app: 'web', command: ['sh'] }] }).bytes;
  const key = softKey();
  const authority = softAuthority(t);
  const certificate = parseCertificates(await certifyHostKey(authority, key.publicArea))[0]!.der;
  const evidence = await softEvidence({ authority, log, runtimeData: { uuid: SAMPLE_UUID, dataHex: 'ab' }, nonce: SAMPLE_NONCE });
  const attest = encodeAttest({ magic: 0xff544347, type: 0x8018, extraData: new Uint8Array(32), selections: QUOTE_SELECTIONS, pcrDigest: new Uint8Array(32) });
  const rsaSignature = concatBytes(fromHex('0014000b0100', 'head'), new Uint8Array(256).fill(3));
  const commands = [pcrExtend(11, digestsOf(new Uint8Array(3))), getPcrBanks(), createPrimary(TPM_RH.owner, attestationKeyTemplate('ecc-p256'))].map(({ bytes }) => bytes);
  return [
    { name: 'event log', seeds: [log], read: (bytes) => parseEventLog(bytes) },
    {
      name: 'log of a pod', seeds: [log], read(bytes) {
        const podLog = parsePodLog(bytes);
        replay(podLog.log);
        readStory(podLog);
        celJson(podLog.log);
        return podLogText(podLog);
      },
    },
    { name: 'quote', seeds: [attest], read: parseAttestedQuote },
    { name: 'signature', seeds: [key.sign(attest), rsaSignature], read: parseSignature },
    { name: 'public area', seeds: [key.publicArea], read: (bytes) => keyKindOf(encodePublicKeyInfo(parsePublicArea(bytes).key)) },
    ...(await answers(t)).map(({ command, answer }): Target => ({ name: `answer to ${command.name}`, seeds: [answer], read: (bytes) => command.decode(bytes) })),
    { name: 'command of a guest', seeds: commands, read: (bytes) => [guestMay(bytes), parsePcrExtend(bytes)] },
    { name: 'note', seeds: [encodePending({ logSizeBytes: 1, before: digestsOf(new Uint8Array(1)), event: { pcr: 1, type: 6, data: new Uint8Array(9) } })], read: (bytes) => parsePending(bytes) },
    { name: 'certificate', seeds: [certificate], read: parseCertificate },
    { name: 'evidence', seeds: [bytesOf(evidence)], read: (bytes) => parseEvidence(text(bytes)) },
    { name: 'reference', seeds: [bytesOf(referenceDocument(predict(samplePod())))], read: (bytes) => parseReference(text(bytes)) },
    { name: 'policy', seeds: [bytesOf({ format: 'rkt-policy', formatVersion: 1, requireSealed: true, images: ['a'], phases: ['enter'] })], read: (bytes) => parsePolicy(text(bytes)) },
    {
      name: 'verification', seeds: [bytesOf(evidence)], read: async (bytes) => await verify({
        evidence: evidenceWithBytes(evidence, bytes), caPem: authority.pem, nonceHex: '00'.repeat(16), references: [],
      }),
    },
  ];
}

/** A sound document with one field of bytes replaced, so that mutations get behind the reading of JSON. */
function evidenceWithBytes(evidence: JsonObject, bytes: Uint8Array): unknown {
  const hex = Buffer.from(bytes.subarray(0, 600)).toString('hex');
  const field = bytes.length % 4;
  if (field === 0) return { ...evidence, eventLog: (evidence['eventLog'] as string).slice(0, bytes.length * 2) + hex.slice(0, 40) };
  if (field === 1) return { ...evidence, quote: { ...(evidence['quote'] as JsonObject), attest: hex } };
  if (field === 2) return { ...evidence, podKey: { public: hex } };
  return { ...evidence, quote: { ...(evidence['quote'] as JsonObject), signature: hex } };
}

const INTERESTING = [0, 1, 2, 3, 4, 6, 0x0b, 0x0c, 0x10, 0x14, 0x18, 0x20, 0x22, 0x30, 0x7b, 0x7f, 0x80, 0xff];

function mutate(random: SeededRandom, seed: Uint8Array): Uint8Array {
  let bytes: Uint8Array = seed.slice();
  for (let count = 1 + random.below(4); count > 0 && bytes.length > 0; count--) {
    const at = random.below(bytes.length);
    switch (random.below(8)) {
      case 0: bytes = bytes.slice(0, at); break;
      case 1: bytes[at] = random.below(256); break;
      case 2: bytes[at] = random.pick(INTERESTING); break;
      case 3: bytes[at]! ^= 1 << random.below(8); break;
      case 4: bytes = concatBytes(bytes, random.bytes(random.below(40))); break;
      case 5: bytes = concatBytes(bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + random.below(60)))); break;
      case 6: bytes = concatBytes(bytes.subarray(0, at), bytes.subarray(at, at + random.below(200)), bytes.subarray(at)); break;
      case 7: bytes.fill(random.pick([0, 0xff]), at, at + random.below(9)); break;
    }
  }
  return bytes;
}

/** How many ended in each way, by target. */
async function fuzz(list: readonly Target[], seed: number, inputs: number): Promise<Map<string, { read: number; refused: number }>> {
  const ends = new Map(list.map(({ name }) => [name, { read: 0, refused: 0 }]));
  for (let round = 0; round < inputs; round++) {
    const random = seededRandom(seed + round);
    const target = list[round % list.length]!;
    const bytes = random.below(20) === 0 ? random.bytes(random.below(300)) : mutate(random, random.pick(target.seeds));
    const started = performance.now();
    try {
      await target.read(bytes);
      ends.get(target.name)!.read++;
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'RktError' || (error as { code?: string }).code === 'INTERNAL') throw new Error(`seed ${seed + round}, ${target.name}`, { cause: error });
      ends.get(target.name)!.refused++;
    }
    if (performance.now() - started > MAX_INPUT_MS) throw new Error(`seed ${seed + round}, ${target.name}: took ${performance.now() - started} ms`);
  }
  return ends;
}

t.test('mutated inputs', async (t) => {
  const list = await targets(t);
  for (const { name, seeds, read } of list) for (const seed of seeds) await t.resolves(Promise.resolve().then(() => read(seed)), `${name}: what is mutated is sound`);
  const ends = await fuzz(list, 1, ROUNDS);
  t.comment([...ends].map(([name, { read, refused }]) => `${name} ${read}/${refused}`).join(', '));
  // If nearly all ended in one way the mutations would not reach the rest of the code.
  for (const [name, { read, refused }] of ends) {
    if (name !== 'command of a guest' && name !== 'note' && name !== 'verification') t.ok(refused > 0, `${name}: ${refused} refused`);
    t.ok(read > 0, `${name}: ${read} read`);
  }
});

const inputs = Number(process.env['RKT_FUZZ_INPUTS'] ?? 0);
const timeout = 60_000 + inputs * 5;
if (inputs > 0) t.setTimeout(timeout);
t.test('mutated inputs, many', { skip: inputs > 0 ? false : 'RKT_FUZZ_INPUTS is not set', timeout }, async (t) => {
  const seed = Date.now() % 2 ** 30;
  t.comment(`seed ${seed}`);
  const ends = await fuzz(await targets(t), seed, inputs);
  t.comment([...ends].map(([name, { read, refused }]) => `${name} ${read}/${refused}`).join(', '));
});
