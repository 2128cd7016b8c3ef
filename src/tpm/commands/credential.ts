/**
 * Credential activation: proof that an attestation key and an endorsement key live in the same TPM. The challenge can only
 * be opened by a TPM that holds the endorsement key and a key of the name the challenge was made for.
 */
import { ByteWriter } from '../bytes.ts';
import { NO_PASSWORD, tpmCommand, type TpmCommand } from '../command.ts';
import { TPM_ALG, TPM_RH } from '../constants.ts';
import { HASH_ALGORITHMS, type HashName } from '../hash-algorithms.ts';

const EMPTY = new Uint8Array(0);
const POLICY_SESSION = 0x01;

/** @param nonceCaller at least 16 bytes, as long as the hash at most */
export function startPolicySession(hash: HashName, nonceCaller: Uint8Array): TpmCommand<{ session: number; nonceTpm: Uint8Array }> {
  const parameters = new ByteWriter('big').sized16(nonceCaller).sized16(EMPTY).u8(POLICY_SESSION).u16(TPM_ALG.null).u16(HASH_ALGORITHMS[hash].id).bytes;
  const layout = { handles: [TPM_RH.null, TPM_RH.null], parameters, responseHandles: 1 };
  return tpmCommand('StartAuthSession', layout, ({ handles, parameters: answer }) => ({ session: handles[0]!, nonceTpm: answer.sized16() }));
}

/** The policy of endorsement keys: knowing the endorsement hierarchy's password, which is empty. */
export function policySecret(hierarchy: number, session: number): TpmCommand<void> {
  const NO_EXPIRATION = 0;
  const parameters = new ByteWriter('big').sized16(EMPTY).sized16(EMPTY).sized16(EMPTY).u32(NO_EXPIRATION).bytes;
  return tpmCommand('PolicySecret', { handles: [hierarchy, session], authorizations: [NO_PASSWORD], parameters }, ({ parameters: answer }) => {
    answer.sized16();
    answer.u16();
    answer.u32();
    answer.sized16();
  });
}

export interface Challenge {
  /** Contents of TPM2B_ID_OBJECT. */
  credentialBlob: Uint8Array;
  /** Contents of TPM2B_ENCRYPTED_SECRET. */
  secret: Uint8Array;
}

/** @param name of the attestation key */
export function makeCredential(endorsementKey: number, credential: Uint8Array, name: Uint8Array): TpmCommand<Challenge> {
  const parameters = new ByteWriter('big').sized16(credential).sized16(name).bytes;
  return tpmCommand('MakeCredential', { handles: [endorsementKey], parameters }, ({ parameters: answer }) => ({ credentialBlob: answer.sized16(), secret: answer.sized16() }));
}

export interface ActivationKeys {
  attestationKey: number;
  endorsementKey: number;
  /** With `policySecret` done. It is used up. */
  endorsementSession: number;
}

/** Gives back the credential. */
export function activateCredential(keys: ActivationKeys, challenge: Challenge): TpmCommand<Uint8Array> {
  const layout = {
    handles: [keys.attestationKey, keys.endorsementKey],
    authorizations: [NO_PASSWORD, { kind: 'policy', session: keys.endorsementSession } as const],
    parameters: new ByteWriter('big').sized16(challenge.credentialBlob).sized16(challenge.secret).bytes,
  };
  return tpmCommand('ActivateCredential', layout, ({ parameters: answer }) => answer.sized16());
}
