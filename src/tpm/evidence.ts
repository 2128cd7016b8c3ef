/** The document that a pod shows to a verifier. Host and guest make it alike; src/attest reads it. */
import { toHex } from './bytes.ts';
import type { JsonObject } from './canonical-json.ts';
import type { PcrBanks } from './commands/pcr.ts';
import type { QuoteBytes } from './commands/quote.ts';
import type { PodQuote, RuntimeData } from './pod-key.ts';

export const EVIDENCE_FORMAT = 'rkt-evidence';
export const EVIDENCE_VERSION = 1;

/** The host's word for the pod's key, made once a pod. */
export interface PodKeyEndorsement extends QuoteBytes {
  /** Certificate of the host's key, then those between it and a root: PEM. */
  certificatesPem: string;
  /** Certificates of the endorsement keys of the host's TPM: PEM, or empty. */
  endorsementKeyCertificatesPem: string;
}

export interface EvidenceParts {
  runtimeData: RuntimeData;
  quote: PodQuote;
  endorsement: PodKeyEndorsement;
  /** Read together with the quote: when a PCR changed between, verification fails and the quote must be made again. */
  pcrs: PcrBanks;
  eventLog: Uint8Array;
}

/** Bytes are lower-case hexadecimal. The nonce is not in it: the verifier knows the one it gave. */
export function buildEvidence({ runtimeData, quote, endorsement, pcrs, eventLog }: EvidenceParts): JsonObject {
  return {
    format: EVIDENCE_FORMAT,
    formatVersion: EVIDENCE_VERSION,
    runtimeData: { uuid: runtimeData.uuid, data: runtimeData.dataHex },
    quote: { attest: toHex(quote.attest), signature: toHex(quote.signature) },
    podKey: { public: toHex(quote.keyPublic) },
    endorsement: { attest: toHex(endorsement.attest), signature: toHex(endorsement.signature), certificates: endorsement.certificatesPem },
    endorsementKey: { certificates: endorsement.endorsementKeyCertificatesPem },
    pcrs: Object.fromEntries([...pcrs].map(([bank, values]) => [bank, Object.fromEntries([...values].sort(([a], [b]) => a - b).map(([pcr, value]) => [String(pcr), toHex(value)]))])),
    eventLog: toHex(eventLog),
  };
}
