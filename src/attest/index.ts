/** `rkt/attest`: predict, read and verify. No platform modules: runs in Node and in browsers. */
export { RktError } from '../error.ts';
export { celJson, jsonSequence } from '../tpm/cel.ts';
export { describeEntry, parsePodLog, podLogText, type PodLog, type PodLogEntry } from '../tpm/pod-log.ts';
export type { HostFacts, MeasuredFile } from '../tpm/host-measurements.ts';
export type { PodDisk } from '../tpm/measured-manifest.ts';
export type { Measurement } from '../tpm/measurements.ts';
export { parseCertificate, parseCertificates, toPem, type Certificate } from './certificate.ts';
export { parseEvidence, trusteeEvidence, type Evidence } from './evidence.ts';
export { issueHostCertificate, type HostCertificateRequest } from './host-certificate.ts';
export { DEFAULT_POLICY, parsePolicy, type Policy } from './policy.ts';
export { pcrlockJson, pcrsJson, predict, rvpsJson, type Prediction, type PredictionInput } from './predict.ts';
export { parseReference, referenceDocument, type Reference } from './reference.ts';
export { verdictText } from './verdict-text.ts';
export { verify, type Check, type CheckName, type Claims, type Finding, type Verdict, type VerifyRequest } from './verify.ts';
