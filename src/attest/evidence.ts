/** The evidence document (src/tpm/evidence.ts) from outside: typed, limited, and nothing believed yet. */
import { EVIDENCE_FORMAT, EVIDENCE_VERSION } from '../tpm/evidence.ts';
import { isHex, toHex } from '../tpm/bytes.ts';
import { bankOf, type PcrBanks } from '../tpm/commands/pcr.ts';
import { PCR_COUNT } from '../tpm/constants.ts';
import { EVENT_LOG_LIMIT_BYTES } from '../tpm/event-log.ts';
import { HASH_ALGORITHMS, POD_BANKS } from '../tpm/hash-algorithms.ts';
import { RUNTIME_DATA_MAX_BYTES, type RuntimeData } from '../tpm/pod-key.ts';
import { parsePublicArea } from '../tpm/public-area.ts';
import { parseSignature } from '../tpm/signature.ts';
import { toBase64 } from './certificate.ts';
import { jsonDocument, type JsonFields } from './json-fields.ts';
import { encodePublicKeyInfo } from './public-key-info.ts';
import { RktError } from '../error.ts';

export interface SignedAttest {
  /** TPMS_ATTEST. */
  attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  signature: Uint8Array;
}

export interface Evidence {
  runtimeData: RuntimeData;
  quote: SignedAttest;
  /** TPMT_PUBLIC. */
  podKeyPublic: Uint8Array;
  endorsement: SignedAttest & { certificatesPem: string };
  endorsementKeyCertificatesPem: string;
  pcrs: PcrBanks;
  eventLog: Uint8Array;
}

const TPM_STRUCTURE_LIMIT_BYTES = 4096;
const PEM_LIMIT_CHARACTERS = 256 << 10;

/**
 * @param document its text, or what JSON.parse made of it
 * @throws RktError BAD_INPUT, LIMIT
 */
export function parseEvidence(document: unknown, origin = 'evidence'): Evidence {
  const fields = jsonDocument(document, origin);
  fields.expectFormat(EVIDENCE_FORMAT, EVIDENCE_VERSION);
  const runtimeData = fields.object('runtimeData');
  const endorsement = fields.object('endorsement');
  return {
    runtimeData: { uuid: runtimeData.text('uuid'), dataHex: toHex(runtimeData.bytes('data', RUNTIME_DATA_MAX_BYTES)) },
    quote: signedAttest(fields.object('quote')),
    podKeyPublic: fields.object('podKey').bytes('public', TPM_STRUCTURE_LIMIT_BYTES),
    endorsement: { ...signedAttest(endorsement), certificatesPem: pem(endorsement) },
    endorsementKeyCertificatesPem: pem(fields.object('endorsementKey')),
    pcrs: pcrBanks(fields.object('pcrs')),
    eventLog: fields.bytes('eventLog', EVENT_LOG_LIMIT_BYTES),
  };
}

function signedAttest(fields: JsonFields): SignedAttest {
  return { attest: fields.bytes('attest', TPM_STRUCTURE_LIMIT_BYTES), signature: fields.bytes('signature', TPM_STRUCTURE_LIMIT_BYTES) };
}

function pem(fields: JsonFields): string {
  const text = fields.text('certificates');
  if (text.length > PEM_LIMIT_CHARACTERS) fields.fail('certificates', `more than ${PEM_LIMIT_CHARACTERS} characters`);
  return text;
}

/** The banks of a pod; others say nothing here. */
export function pcrBanks(fields: JsonFields): PcrBanks {
  const banks: PcrBanks = new Map();
  for (const bank of POD_BANKS) {
    if (!fields.has(bank)) continue;
    const values = fields.object(bank);
    for (const name of values.names) {
      const pcr = Number(name);
      if (String(pcr) !== name || !Number.isInteger(pcr) || pcr < 0 || pcr >= PCR_COUNT) values.fail(name, 'not the number of a PCR');
      if (!isHex(values.text(name), 2 * HASH_ALGORITHMS[bank].sizeBytes)) values.fail(name, `expected ${2 * HASH_ALGORITHMS[bank].sizeBytes} lower-case hexadecimal digits`);
      bankOf(banks, bank).set(pcr, values.bytes(name, HASH_ALGORITHMS[bank].sizeBytes));
    }
  }
  return banks;
}

/**
 * The shape in which Trustee's TPM verifier takes evidence. As of 2026 that verifier knows RSA keys only, which it must have
 * been given before, and wants all 24 PCRs of one bank quoted: a pod's quote has the shape but not these properties.
 * @throws RktError BAD_INPUT
 */
export function trusteeEvidence(evidence: Evidence): { ak_public: string; tpm_quote: { message: string; signature: string; pcrs: string[] } } {
  const values = evidence.pcrs.get('sha256');
  if (values === undefined) throw new RktError('BAD_INPUT', 'evidence: no values of the sha256 bank');
  parseSignature(evidence.quote.signature);
  const unread = new Uint8Array(HASH_ALGORITHMS.sha256.sizeBytes);
  return {
    ak_public: toBase64(encodePublicKeyInfo(parsePublicArea(evidence.podKeyPublic).key)),
    tpm_quote: {
      message: toBase64(evidence.quote.attest),
      signature: toBase64(evidence.quote.signature),
      pcrs: Array.from({ length: PCR_COUNT }, (_, pcr) => toHex(values.get(pcr) ?? unread)),
    },
  };
}
