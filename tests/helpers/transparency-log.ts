/** A transparency log as Rekor is one, of @sigstore/mock. */
import { createHash } from 'node:crypto';
import { initializeTLog } from '@sigstore/mock';
import { ecKeys, pem } from './cosign.ts';
import type { SignedPayload } from './cosign.ts';

export interface Log {
  publicKeyPem: string;
  publicKeyDer: Buffer;
  /** Enters a signature and adds the log's promise to it. `keyOrCertificate`: PEM, as the log is told. */
  enter(signed: SignedPayload, keyOrCertificate: string, at?: Date): Promise<SignedPayload>;
  /** Enters a signature; gives the entry in the form of a bundle. */
  bundleEntry(spec: { kind: string; version: string; body: object }, at?: Date): Promise<object>;
}

/** An entry as the log answers. */
interface LogEntry {
  body: string;
  integratedTime: number;
  logIndex: number;
  logID: string;
  verification: { signedEntryTimestamp: string; inclusionProof: { logIndex: number; rootHash: string; treeSize: number; checkpoint: string } };
}

/** A transparency log. */
export function makeLog(): Log {
  const keys = ecKeys();
  const entered = async (entry: object, at: Date): Promise<LogEntry> => {
    const log = await initializeTLog('https://rekor.example.com', keys, at);
    const [made] = Object.values((await log.log(entry)) as unknown as Record<string, LogEntry>);
    if (made === undefined) throw new Error('the log makes no entry');
    return made;
  };
  return {
    publicKeyPem: pem(keys.publicKey),
    publicKeyDer: keys.publicKey.export({ type: 'spki', format: 'der' }),
    enter: async ({ payload, annotations }, keyOrCertificate, at = new Date()) => {
      const { body, integratedTime, logIndex, logID, verification } = await entered({
        apiVersion: '0.0.1',
        kind: 'hashedrekord',
        spec: {
          data: { hash: { algorithm: 'sha256', value: createHash('sha256').update(payload).digest('hex') } },
          signature: { content: annotations['dev.cosignproject.cosign/signature'], publicKey: { content: Buffer.from(keyOrCertificate).toString('base64') } },
        },
      }, at);
      return { payload, annotations: { ...annotations, 'dev.sigstore.cosign/bundle': JSON.stringify({ SignedEntryTimestamp: verification.signedEntryTimestamp, Payload: { body, integratedTime, logIndex, logID } }) } };
    },
    bundleEntry: async ({ kind, version, body }, at = new Date()) => {
      const entry = await entered({ kind, apiVersion: version, spec: body }, at);
      const { signedEntryTimestamp, inclusionProof: proof } = entry.verification;
      return {
        logIndex: String(entry.logIndex),
        logId: { keyId: Buffer.from(entry.logID, 'hex').toString('base64') },
        kindVersion: { kind, version },
        integratedTime: String(entry.integratedTime),
        inclusionPromise: { signedEntryTimestamp },
        inclusionProof: { logIndex: String(proof.logIndex), rootHash: Buffer.from(proof.rootHash, 'hex').toString('base64'), treeSize: String(proof.treeSize), hashes: [], checkpoint: { envelope: proof.checkpoint } },
        canonicalizedBody: entry.body,
      };
    },
  };
}
