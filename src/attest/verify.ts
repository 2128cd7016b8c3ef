/**
 * Verification of a pod's evidence: offline, without a TPM, in Node and in browsers. Every step is told in words, also those
 * that succeed; one that fails does not hide what the others would say.
 */
import { RktError } from '../error.ts';
import { concatBytes, equalBytes, toHex } from '../tpm/bytes.ts';
import { parseAttestedQuote, type AttestedQuote } from '../tpm/attested-quote.ts';
import { isPodBank, POD_BANKS, PORTABLE_HASHES, type BankHashes } from '../tpm/hash-algorithms.ts';
import { endorsementBinding, NONCE_MIN_BYTES, parseNonce, quoteBinding } from '../tpm/pod-key.ts';
import { QUOTED_PCRS } from '../tpm/pcr-table.ts';
import { replay } from '../tpm/pcr.ts';
import { parsePodLog, type PodLog } from '../tpm/pod-log.ts';
import { nameOf, parsePublicArea, type PublicArea } from '../tpm/public-area.ts';
import { parseSignature } from '../tpm/signature.ts';
import { requireAttestationKey } from './attestation-key.ts';
import { chainToAnchor, parseCertificates } from './certificate.ts';
import { checkSignature } from './check-signature.ts';
import { compareLaunch } from './compare.ts';
import { parseEvidence, type Evidence, type SignedAttest } from './evidence.ts';
import { applyPolicy, DEFAULT_POLICY, type Policy } from './policy.ts';
import { readStory, type PodStory, type Problem } from './pod-story.ts';
import { encodePublicKeyInfo } from './public-key-info.ts';
import type { Reference } from './reference.ts';

export interface VerifyRequest {
  /** The document: its text, or what JSON.parse made of it. */
  evidence: unknown;
  /** The nonce this verifier gave, once, for this quote. Hexadecimal, at least 16 bytes. */
  nonceHex: string;
  /** Certificates of the authorities that are trusted with hosts' keys: PEM. */
  caPem: string;
  /** The pod must match one of them. */
  references: readonly Reference[];
  policy?: Policy;
  /** What the quote must be bound to besides the nonce; absent: anything, `runtimeData` says what. */
  dataHex?: string;
  /** Milliseconds since the epoch, for certificates; absent: now. */
  nowMs?: number;
}

export type CheckName = (typeof CHECKS)[number];

/** In the order in which they are told. */
const CHECKS = ['evidence', 'host', 'pod-key', 'quote', 'freshness', 'registers', 'log', 'reference', 'policy'] as const;

export interface Check {
  name: CheckName;
  ok: boolean;
  /** What was checked, or each thing that is wrong. */
  findings: readonly Finding[];
}

export interface Finding {
  text: string;
  /** Index of the event it is about. */
  event: number | null;
}

export interface Verdict {
  /** Every check was made and succeeded. */
  ok: boolean;
  checks: readonly Check[];
  /** What the evidence says of itself: believe it only if `ok`. */
  claims: Claims | null;
}

export interface Claims {
  uuid: string;
  dataHex: string;
  log: PodLog;
  story: PodStory;
  /** Name of the reference that matched. */
  reference: string | null;
  /** To tell two quotes of one pod apart: counts that only grow. */
  quote: AttestedQuote | null;
}

/** Never throws for what the evidence holds. @throws RktError for a nonce, authorities or data that make no sense */
export async function verify(request: VerifyRequest): Promise<Verdict> {
  const nonce = parseNonce(request.nonceHex);
  const anchors = parseCertificates(request.caPem);
  if (anchors.length === 0) throw new RktError('USAGE', 'no certificate of a trusted authority was given', { hint: 'the CA certificate of the host, in PEM' });
  const checks = new Checks();
  const evidence = await checks.run('evidence', () => ({ value: parseEvidence(request.evidence), text: 'the document is complete' }));
  if (evidence === null) return checks.verdict(null);

  const podKey = await checks.run('pod-key', () => podKeyOf(evidence));
  await checks.run('host', async () => await checkHost(evidence, podKey, { anchors, nowMs: request.nowMs ?? Date.now() }));
  const quote = await checks.run('quote', async () => await checkQuote(evidence, podKey));
  await checks.run('freshness', () => checkFreshness(evidence, quote, { nonce, dataHex: request.dataHex }));
  await checks.run('registers', () => checkRegisters(evidence, quote));
  const read = await checks.run('log', () => checkLog(evidence));
  const reference = await checks.run('reference', () => checkReference(read, request.references, evidence.runtimeData.uuid));
  await checks.run('policy', () => checkPolicy(read, request.policy ?? DEFAULT_POLICY, evidence.runtimeData.uuid));
  if (read === null) return checks.verdict(null);
  return checks.verdict({ uuid: evidence.runtimeData.uuid, dataHex: evidence.runtimeData.dataHex, log: read.log, story: read.story, reference, quote });
}

interface Passed<T> {
  value: T;
  text: string;
}

/** What is wrong with a step, when it is more than one thing. The value is of use to later steps all the same. */
interface Failed<T> {
  value: T;
  problems: readonly Problem[];
}

class Checks {
  readonly #done = new Map<CheckName, Check>();

  /** Null: the step failed in a way that leaves nothing for later steps. */
  async run<T>(name: CheckName, step: () => Passed<T> | Failed<T> | Promise<Passed<T> | Failed<T>>): Promise<T | null> {
    try {
      const outcome = await step();
      const findings = 'text' in outcome ? [{ text: outcome.text, event: null }] : outcome.problems;
      this.#done.set(name, { name, ok: 'text' in outcome, findings });
      return outcome.value;
    } catch (error) {
      if (!(error instanceof RktError) || error.code === 'INTERNAL') throw error;
      this.#done.set(name, { name, ok: false, findings: [{ text: error.message, event: null }] });
      return null;
    }
  }

  verdict(claims: Claims | null): Verdict {
    const checks = CHECKS.map((name) => this.#done.get(name) ?? { name, ok: false, findings: [{ text: 'not checked: a check before it failed', event: null }] });
    return { ok: checks.every(({ ok }) => ok), checks, claims };
  }
}

function impossible(what: string): never {
  throw new RktError('BAD_SIGNATURE', `not checked: ${what}`);
}

function podKeyOf({ podKeyPublic }: Evidence): Passed<PublicArea> {
  const area = parsePublicArea(podKeyPublic);
  requireAttestationKey(area, "the pod's key");
  return { value: area, text: "the pod's key signs nothing but what its TPM says and cannot leave it" };
}

/** The host's key is known to a trusted authority, and says whose the pod's key is. */
async function checkHost({ endorsement, podKeyPublic, runtimeData }: Evidence, podKey: PublicArea | null, trust: { anchors: ReturnType<typeof parseCertificates>; nowMs: number }): Promise<Passed<null>> {
  if (podKey === null) return impossible("the pod's key cannot be read");
  const [leaf, ...intermediates] = parseCertificates(endorsement.certificatesPem);
  if (leaf === undefined) throw new RktError('BAD_SIGNATURE', "the evidence has no certificate of the host's key");
  if (leaf.isAuthority || leaf.maySign !== true || !leaf.isForAttestationKeys) throw new RktError('BAD_SIGNATURE', `the certificate of "${leaf.subjectName}" is not one for an attestation key`);
  const chain = await chainToAnchor({ leaf, intermediates, ...trust });
  const statement = await checkSigned(endorsement, leaf.publicKeyInfo, "the host's statement about the pod's key");
  const name = nameOf(podKeyPublic, podKey.nameAlgorithm, hashFor(podKey.nameAlgorithm));
  if (!equalBytes(statement.extraData, endorsementBinding(name, runtimeData.uuid))) throw new RktError('BAD_SIGNATURE', `the host's statement is about another key or another pod than ${runtimeData.uuid}`);
  const authorities = chain.slice(1).map(({ subjectName }) => `"${subjectName}"`).join(', ');
  return { value: null, text: `host "${leaf.subjectName}"${authorities === '' ? '' : `, certified by ${authorities},`} says that the key is that of pod ${runtimeData.uuid}` };
}

async function checkQuote(evidence: Evidence, podKey: PublicArea | null): Promise<Passed<AttestedQuote>> {
  if (podKey === null) return impossible("the pod's key cannot be read");
  const quote = await checkSigned(evidence.quote, encodePublicKeyInfo(podKey.key), 'the quote');
  const signature = parseSignature(evidence.quote.signature);
  if (signature.algorithm !== podKey.scheme?.algorithm || signature.hash !== podKey.scheme.hash) throw new RktError('BAD_SIGNATURE', 'the quote is not signed with the scheme of its key');
  checkSelection(quote);
  const values: Uint8Array[] = [];
  for (const { bank, pcrs } of quote.selections) {
    for (const pcr of pcrs) values.push((isPodBank(bank) ? evidence.pcrs.get(bank)?.get(pcr) : undefined) ?? missing(bank, pcr));
  }
  if (!equalBytes(hashFor(signature.hash)(concatBytes(...values)), quote.pcrDigest)) throw new RktError('BAD_SIGNATURE', 'the registers in the evidence are not those that were quoted');
  return { value: quote, text: `the quote is signed by the pod's key and covers ${QUOTED_PCRS.length} registers in each of the banks ${POD_BANKS.join(', ')}` };
}

function missing(bank: string, pcr: number): never {
  throw new RktError('BAD_INPUT', `the quote covers PCR ${pcr} of ${bank}, the evidence does not tell its value`);
}

/** Nothing may be left out, in no bank; more than that does no harm. */
function checkSelection({ selections }: AttestedQuote): void {
  for (const bank of POD_BANKS) {
    const quoted = selections.filter((selection) => selection.bank === bank).flatMap(({ pcrs }) => pcrs);
    const left = QUOTED_PCRS.filter((pcr) => !quoted.includes(pcr));
    if (left.length > 0) throw new RktError('BAD_SIGNATURE', `the quote does not cover PCR ${left.join(', ')} of the ${bank} bank`);
  }
}

/** Signature, magic and type. What was signed is read only after its signature has been checked. */
async function checkSigned({ attest, signature }: SignedAttest, publicKeyInfo: Uint8Array, what: string): Promise<AttestedQuote> {
  if (!(await checkSignature(publicKeyInfo, parseSignature(signature), attest))) throw new RktError('BAD_SIGNATURE', `${what} is not signed by the key it should be signed by`);
  return parseAttestedQuote(attest);
}

function checkFreshness({ runtimeData }: Evidence, quote: AttestedQuote | null, expected: { nonce: Uint8Array; dataHex: string | undefined }): Passed<null> {
  if (quote === null) return impossible('there is no valid quote');
  if (expected.dataHex !== undefined && expected.dataHex.toLowerCase() !== runtimeData.dataHex) throw new RktError('BAD_SIGNATURE', 'the quote is bound to other data than expected');
  if (!equalBytes(quote.extraData, quoteBinding(expected.nonce, runtimeData))) throw new RktError('BAD_SIGNATURE', 'the quote was not made for this nonce, this pod and this data');
  return { value: null, text: `the quote was made for this nonce (${expected.nonce.length} bytes, at least ${NONCE_MIN_BYTES})${runtimeData.dataHex === '' ? '' : ' and the data in the evidence'}` };
}

/** The log, replayed, must give the registers: every event is one that was measured, and none is missing. */
function checkRegisters({ pcrs, eventLog }: Evidence, quote: AttestedQuote | null): Passed<null> | Failed<null> {
  if (quote === null) return impossible('there is no valid quote');
  const replayed = replay(parsePodLog(eventLog).log);
  const problems: Problem[] = [];
  for (const bank of POD_BANKS) {
    for (const pcr of QUOTED_PCRS) {
      const expected = replayed.get(bank)?.get(pcr);
      const value = pcrs.get(bank)?.get(pcr);
      if (expected === undefined || value === undefined || !equalBytes(expected, value)) problems.push({ event: null, text: `PCR ${pcr} of ${bank} is ${value === undefined ? 'absent' : toHex(value)}, its events give ${expected === undefined ? 'nothing' : toHex(expected)}: the log is incomplete, changed, or of another moment` });
    }
  }
  return problems.length > 0 ? { value: null, problems } : { value: null, text: 'the log, replayed, gives the quoted registers' };
}

interface ReadLog {
  log: PodLog;
  story: PodStory;
}

function checkLog({ eventLog, runtimeData }: Evidence): Passed<ReadLog> | Failed<ReadLog> {
  const log = parsePodLog(eventLog);
  const story = readStory(log);
  const problems = [...story.problems];
  for (const { index, measurement } of story.launch) {
    if (measurement.kind === 'pod' && measurement.uuid !== runtimeData.uuid) problems.push({ event: index, text: `is about pod ${JSON.stringify(measurement.uuid)}, the evidence about ${JSON.stringify(runtimeData.uuid)}` });
  }
  const value = { log, story };
  return problems.length > 0 ? { value, problems } : { value, text: `each of the ${log.entries.length} events is known, at its place, and says just what was measured` };
}

function checkReference(read: ReadLog | null, references: readonly Reference[], uuid: string): Passed<string | null> | Failed<string | null> {
  if (read === null) return impossible('there is no readable log');
  if (references.length === 0) throw new RktError('BAD_SIGNATURE', 'there is no reference to compare the pod with');
  let closest: { name: string; problems: Problem[] } | null = null;
  for (const { name, measurements } of references) {
    const problems = compareLaunch(measurements, read.story.launch, uuid);
    if (problems.length === 0) return { value: name, text: `everything up to the end of the launch is as in ${name}` };
    if (closest === null || problems.length < closest.problems.length) closest = { name, problems };
  }
  const { name, problems } = closest!;
  return { value: null, problems: problems.map(({ event, text }) => ({ event, text: references.length === 1 ? text : `${name}: ${text}` })) };
}

function checkPolicy(read: ReadLog | null, policy: Policy, uuid: string): Passed<null> | Failed<null> {
  if (read === null) return impossible('there is no readable log');
  const problems = applyPolicy(policy, read.story, uuid);
  const changes = read.story.mutations.length;
  return problems.length > 0 ? { value: null, problems } : { value: null, text: `the policy is met; ${changes === 0 ? 'nobody has changed the pod since its launch' : `${changes} changes since the launch, all allowed`}` };
}

/** The hash of a key or a signature, which is one of a pod's banks. */
function hashFor(name: string): BankHashes[keyof BankHashes] {
  if (isPodBank(name)) return PORTABLE_HASHES[name];
  throw new RktError('UNSUPPORTED', `${name} is not used by pods' keys, expected one of ${POD_BANKS.join(', ')}`);
}
