/**
 * Which TPM commands a guest may send. The monitor asks for each that passes by; what is not listed here is refused as a TPM
 * would that does not know it.
 *
 * A guest owns its TPM for keys, sealing, policies and NV space of its own. It must not: undo or add to what the host has
 * measured, touch the platform hierarchy (which is the host's), change the seeds and passwords the endorsement keys hang on,
 * or remove those keys. That it may quote with the pod's key for any nonce is no harm: the key signs nothing but what the TPM
 * itself says, and a verifier accepts a quote only for a nonce that it has just made.
 */
import { ByteReader } from './bytes.ts';
import { aboutHandle, TPM_RC } from './response-code.ts';
import { TPM_HEADER_BYTES, TPM_MAX_MESSAGE_BYTES } from './command.ts';
import { KEY_HANDLES, TPM_CC, TPM_RH, TPM_ST, type TpmCommandName } from './constants.ts';
import { HASH_ALGORITHMS, hashNameOf, type TaggedDigest } from './hash-algorithms.ts';
import { HOST_PCRS } from './pcr-table.ts';

export type GuestVerdict = { allowed: true } | { allowed: false; /** What the guest is told: see errorResponse. */ responseCode: number };

/** Commands a guest may send, with how many handles each begins with. */
const ALLOWED: Readonly<Partial<Record<TpmCommandName, number>>> = {
  ActivateCredential: 2, Certify: 2, CertifyCreation: 2, Commit: 1, ContextLoad: 0, ContextSave: 1, Create: 1, CreateLoaded: 1, CreatePrimary: 1,
  DictionaryAttackLockReset: 1, Duplicate: 2, EC_Ephemeral: 0, ECC_Parameters: 0, ECDH_KeyGen: 1, ECDH_ZGen: 1, EncryptDecrypt: 1, EncryptDecrypt2: 1,
  EventSequenceComplete: 2, EvictControl: 2, FlushContext: 0, GetCapability: 0, GetRandom: 0, GetSessionAuditDigest: 3, GetTestResult: 0, GetTime: 2,
  Hash: 0, HashSequenceStart: 0, HMAC: 1, HMAC_Start: 1, Import: 1, IncrementalSelfTest: 0, Load: 1, LoadExternal: 0, MakeCredential: 1,
  NV_Certify: 3, NV_ChangeAuth: 1, NV_DefineSpace: 1, NV_Extend: 2, NV_Increment: 2, NV_Read: 2, NV_ReadLock: 2, NV_ReadPublic: 1, NV_SetBits: 2,
  NV_UndefineSpace: 2, NV_Write: 2, NV_WriteLock: 2, ObjectChangeAuth: 2, PCR_Event: 1, PCR_Extend: 1, PCR_Read: 0, PCR_Reset: 1,
  PolicyAuthorize: 1, PolicyAuthorizeNV: 3, PolicyAuthValue: 1, PolicyCommandCode: 1, PolicyCounterTimer: 1, PolicyCpHash: 1, PolicyDuplicationSelect: 1,
  PolicyGetDigest: 1, PolicyLocality: 1, PolicyNameHash: 1, PolicyNV: 3, PolicyNvWritten: 1, PolicyOR: 1, PolicyPassword: 1, PolicyPCR: 1,
  PolicyPhysicalPresence: 1, PolicyRestart: 1, PolicySecret: 2, PolicySigned: 2, PolicyTemplate: 1, PolicyTicket: 1, Quote: 1, ReadClock: 0,
  ReadPublic: 1, Rewrap: 2, RSA_Decrypt: 1, RSA_Encrypt: 1, SelfTest: 0, SequenceComplete: 1, SequenceUpdate: 1, Shutdown: 0, Sign: 1,
  StartAuthSession: 2, StirRandom: 0, TestParms: 0, Unseal: 1, VerifySignature: 1, ZGen_2Phase: 1,
};

interface AllowedCommand {
  name: TpmCommandName;
  handles: number;
}

const ALLOWED_BY_CODE: ReadonlyMap<number, AllowedCommand> = new Map(
  (Object.entries(ALLOWED) as [TpmCommandName, number][]).map(([name, handles]) => [TPM_CC[name], { name, handles }]),
);

const ALLOW: GuestVerdict = { allowed: true };
const KEPT_HANDLES: readonly number[] = Object.values(KEY_HANDLES);
const RESETTABLE_PCRS: readonly number[] = [16, 23];
/** The PCR that EventSequenceComplete extends is its first handle, as for the other two. */
const EXTENDS: readonly TpmCommandName[] = ['PCR_Extend', 'PCR_Event', 'EventSequenceComplete'];

function refuse(responseCode: number): GuestVerdict {
  return { allowed: false, responseCode };
}

/** @param command one whole command as the guest sent it; never throws */
export function guestMay(command: Uint8Array): GuestVerdict {
  if (command.length < TPM_HEADER_BYTES || command.length > TPM_MAX_MESSAGE_BYTES) return refuse(TPM_RC.commandSize);
  const reader = new ByteReader(command, 'big', 'TPM command');
  const tag = reader.u16();
  if (tag !== TPM_ST.noSessions && tag !== TPM_ST.sessions) return refuse(TPM_RC.badTag);
  if (reader.u32() !== command.length) return refuse(TPM_RC.commandSize);
  const code = reader.u32();
  // The host has started it, and a second start is what would reset the PCRs.
  if (code === TPM_CC.Startup) return refuse(TPM_RC.initialize);
  const known = ALLOWED_BY_CODE.get(code);
  if (known === undefined) return refuse(TPM_RC.commandCode);
  if (reader.leftBytes < 4 * known.handles) return refuse(TPM_RC.commandSize);
  const handles: number[] = [];
  for (let i = 0; i < known.handles; i++) handles.push(reader.u32());
  return handlesAllowed(known.name, handles);
}

function handlesAllowed(name: TpmCommandName, handles: readonly number[]): GuestVerdict {
  const platform = handles.indexOf(TPM_RH.platform);
  if (platform >= 0) return refuse(aboutHandle(TPM_RC.hierarchy, platform + 1));
  if (name === 'EvictControl' && KEPT_HANDLES.includes(handles[1]!)) return refuse(aboutHandle(TPM_RC.handle, 2));
  if (EXTENDS.includes(name) && HOST_PCRS.includes(handles[0]!)) return refuse(TPM_RC.locality);
  if (name === 'PCR_Reset' && !RESETTABLE_PCRS.includes(handles[0]!)) return refuse(TPM_RC.locality);
  return ALLOW;
}

export interface PcrExtend {
  pcr: number;
  digests: TaggedDigest[];
}

/** What a PCR_Extend that passes by extends; null: another command, or one that no TPM would accept. */
export function parsePcrExtend(command: Uint8Array): PcrExtend | null {
  try {
    const reader = new ByteReader(command, 'big', 'TPM2_PCR_Extend');
    if (reader.u16() !== TPM_ST.sessions || reader.u32() !== command.length || reader.u32() !== TPM_CC.PCR_Extend) return null;
    const pcr = reader.u32();
    reader.take(reader.u32());
    const digests: TaggedDigest[] = [];
    for (let left = reader.count(MAX_DIGESTS, 'digests'); left > 0; left--) {
      const algorithm = hashNameOf(reader.u16()) ?? reader.fail('unknown hash algorithm');
      digests.push({ algorithm, digest: reader.take(HASH_ALGORITHMS[algorithm].sizeBytes) });
    }
    reader.expectEnd();
    return { pcr, digests };
  } catch {
    return null;
  }
}

const MAX_DIGESTS = 16;
