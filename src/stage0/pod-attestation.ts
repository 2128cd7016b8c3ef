/** What a pod directory tells about what was measured: its event log, its TPM while it runs, evidence for verifiers. */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { hasEnded, hasRun, pathInPod, refreshState } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { writeFileAtomic } from '../store/index.ts';
import {
  buildEvidence, concatBytes, digestsOf, equalBytes, extended, fromHex, parseAttestedQuote, parseEventLog, parseNonce, parsePending, PCR_COUNT, planRecovery, POD_BANKS, QUOTE_SELECTIONS, quoteBinding,
  quotePod, readPcrs, replay, sha256, type HashName, type MeasuredEvent, type PcrBanks, type PendingMeasurement, type PodKeyEndorsement, type PodQuote, type RuntimeData, type TaggedDigest,
} from '../tpm/index.ts';
import { directoryStage1 } from './root-layout.ts';
import { openSocket, readAll, tpmConnection, type TpmConnection } from './tpm-connection.ts';
import { TPM_STATE_DIRECTORY } from './tpm-state.ts';

/** In the pod directory; docs/pod-directory.md. */
const FILES = { log: 'tpm/eventlog', pending: 'tpm/pending', evidence: 'tpm/evidence.json', commands: 'tpm.sock', endorsement: 'attest.sock' } as const;
const EVIDENCE_MODE = 0o640;

export interface PodLogFile {
  /** Whole records. */
  bytes: Uint8Array;
  /** What was being measured when the pod's monitor was killed: not in the log; the TPM may or may not have had it. */
  interrupted: MeasuredEvent | null;
}

/** Measuring takes milliseconds. */
const PATIENCE_MS = 1000;
const POLL_MS = 5;

/** Throws RktError STATE when nothing was measured, or when log and note do not belong together. */
export async function readPodLog(pod: PodHandle): Promise<PodLogFile> {
  requireMeasured(pod);
  for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(POLL_MS)) {
    const note = readNote(pod);
    const bytes = readOptional(pod, FILES.log);
    if (bytes === null) throw new RktError('STATE', `pod "${pod.uuid}" has no event log: nothing has been measured ${hasEnded(pod.state) ? 'before it ended' : 'yet'}`);
    if (note === null && readNote(pod) === null) return { bytes, interrupted: null };
    if (note !== null && (hasEnded(refreshState(pod)) || Date.now() > deadline)) return afterInterruption(bytes, parsePending(note));
  }
}

/** Null: nothing is being measured. */
function readNote(pod: PodHandle): Uint8Array | null {
  const note = readOptional(pod, FILES.pending);
  return note === null || note.length === 0 ? null : note;
}

/** @param pending null: the note was cut short itself, so nothing had been begun */
function afterInterruption(bytes: Uint8Array, pending: PendingMeasurement | null): PodLogFile {
  if (pending === null) return { bytes, interrupted: null };
  // The TPM is gone. With the values it would have after the step, the plan says what the log lacks.
  const plan = planRecovery(pending, { log: bytes, current: valuesAfter(pending) });
  return plan.action === 'discard' ? { bytes, interrupted: null } : { bytes: bytes.subarray(0, pending.logSizeBytes), interrupted: plan.event };
}

function valuesAfter({ before, event }: PendingMeasurement): PcrBanks {
  const digests = digestsOf(event.data);
  const of = (list: readonly TaggedDigest[], bank: HashName): Uint8Array => list.find(({ algorithm }) => algorithm === bank)!.digest;
  return new Map(POD_BANKS.map((bank) => [bank, new Map([[event.pcr, extended(bank, of(before, bank), of(digests, bank))]])]));
}

/** All registers of a running pod, from its TPM. Throws RktError STATE. */
export async function readPodPcrs(pod: PodHandle): Promise<PcrBanks> {
  using tpm = await connectToTpm(pod);
  const pcrs = Array.from({ length: PCR_COUNT }, (_, pcr) => pcr);
  return await readPcrs(tpm.transport, POD_BANKS.map((bank) => ({ bank, pcrs })));
}

export interface EvidenceRequest {
  nonceHex: string;
  /** Bound to the quote; may be empty. */
  dataHex: string;
}

/** The pod may be measuring something at any time. */
const EVIDENCE_ATTEMPTS = 20;
const RETRY_MS = 50;

/** The document for a verifier, also kept in the pod directory. The host's identity must be there. Throws RktError STATE, USAGE, LIMIT. */
export async function makeEvidence(pod: PodHandle, { nonceHex, dataHex }: EvidenceRequest): Promise<string> {
  const runtimeData: RuntimeData = { uuid: pod.uuid, dataHex: dataHex.toLowerCase() };
  const binding = quoteBinding(parseNonce(nonceHex), runtimeData);
  using tpm = await connectToTpm(pod);
  const endorsement = await readEndorsement(pod);
  for (let attempt = 1; ; attempt++) {
    const quote = await quotePod(tpm.transport, binding);
    const pcrs = await readPcrs(tpm.transport, QUOTE_SELECTIONS);
    const { bytes } = await readPodLog(pod);
    if (belongTogether(quote, pcrs, bytes)) {
      const document = `${JSON.stringify(buildEvidence({ runtimeData, quote, endorsement, pcrs, eventLog: bytes }))}\n`;
      writeFileAtomic(pathInPod(pod, FILES.evidence), document, EVIDENCE_MODE);
      return document;
    }
    if (attempt === EVIDENCE_ATTEMPTS) throw new RktError('STATE', `the registers of the TPM of pod "${pod.uuid}" are not those that its event log gives`, { hint: 'something was extended that is not in the log: do not trust this pod' });
    await sleep(RETRY_MS);
  }
}

/** Quote, registers and log of one moment. */
function belongTogether(quote: PodQuote, pcrs: PcrBanks, log: Uint8Array): boolean {
  const { pcrDigest } = parseAttestedQuote(quote.attest);
  return [pcrs, replay(parseEventLog(log))].every((banks) => equalBytes(quotedDigest(banks), pcrDigest));
}

function quotedDigest(banks: PcrBanks): Uint8Array {
  return sha256(concatBytes(...QUOTE_SELECTIONS.flatMap(({ bank, pcrs }) => pcrs.map((pcr) => banks.get(bank)!.get(pcr)!))));
}

/** The evidence that was last made of the pod. Throws RktError NOT_FOUND. */
export function readLastEvidence(pod: PodHandle): string {
  requireMeasured(pod);
  const bytes = readOptional(pod, FILES.evidence);
  if (bytes === null) throw new RktError('NOT_FOUND', `no evidence has been made of pod "${pod.uuid}"`, { hint: hasEnded(pod.state) ? 'its TPM is gone; its event log is there: rkt attest log' : 'rkt attest quote makes it' });
  return bytes.toString();
}

/** The host's word for the pod's key, which the monitor gets; bytes in hexadecimal. */
type EndorsementAnswer = Record<keyof PodKeyEndorsement, string> | { error: string };

async function readEndorsement(pod: PodHandle): Promise<PodKeyEndorsement> {
  const text = await readAll(await openSocket(pathInPod(pod, FILES.endorsement), () => notRunning(pod)));
  if (!text.endsWith('\n')) throw notRunning(pod);
  const answer = JSON.parse(text) as EndorsementAnswer;
  if ('error' in answer) throw new RktError('GUEST', `this host cannot vouch for the key of pod "${pod.uuid}": ${answer.error}`);
  return { ...answer, attest: fromHex(answer.attest, 'attest'), signature: fromHex(answer.signature, 'signature') };
}

async function connectToTpm(pod: PodHandle): Promise<TpmConnection> {
  requireMeasured(pod);
  if (pod.state !== 'running') throw notRunning(pod);
  return tpmConnection(await openSocket(pathInPod(pod, FILES.commands), () => notRunning(pod)), () => notRunning(pod));
}

function notRunning(pod: PodHandle): RktError {
  const state = refreshState(pod);
  if (state === 'running') return new RktError('STATE', `the TPM of pod "${pod.uuid}" does not answer: the pod is still starting, or ending`);
  return new RktError('STATE', `pod "${pod.uuid}" is not running (${state}): its TPM is gone`, { hint: 'its event log and the evidence that was last made are there: rkt attest log, rkt attest evidence' });
}

/** Throws RktError STATE for pods that were never measured. */
function requireMeasured(pod: PodHandle): void {
  if (!hasRun(pod.state)) throw new RktError('STATE', `pod "${pod.uuid}" has not been started (${pod.state}): nothing has been measured`);
  if (directoryStage1(pathInPod(pod)) !== undefined) throw new RktError('STATE', `pod "${pod.uuid}" has no TPM: its stage1 runs no virtual machine`);
  if (!existsSync(pathInPod(pod, TPM_STATE_DIRECTORY))) throw new RktError('STATE', `pod "${pod.uuid}" has no TPM: it was made with --tpm=off`);
}

function readOptional(pod: PodHandle, name: string): Buffer | null {
  try {
    return readFileSync(pathInPod(pod, name));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  }
}
