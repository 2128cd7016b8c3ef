/** Keys: making, naming and keeping them. None of this is in the way of a pod's start. */
import { ByteWriter } from '../bytes.ts';
import { NO_PASSWORD, nothing, tpmCommand, type TpmCommand } from '../command.ts';
import { TPM_RH } from '../constants.ts';

const EMPTY = new Uint8Array(0);

/** Without a password or sealed data. */
function emptySensitive(): Uint8Array {
  return new ByteWriter('big').sized16(EMPTY).sized16(EMPTY).bytes;
}

export interface PrimaryKey {
  handle: number;
  /** TPMT_PUBLIC. */
  publicArea: Uint8Array;
  name: Uint8Array;
}

/**
 * The same seed and template always give the same key.
 * @param template TPMT_PUBLIC
 */
export function createPrimary(hierarchy: number, template: Uint8Array): TpmCommand<PrimaryKey> {
  const NO_CREATION_PCRS = 0;
  const parameters = new ByteWriter('big').sized16(emptySensitive()).sized16(template).sized16(EMPTY).u32(NO_CREATION_PCRS).bytes;
  const layout = { handles: [hierarchy], authorizations: [NO_PASSWORD], parameters, responseHandles: 1 };
  return tpmCommand('CreatePrimary', layout, ({ handles, parameters: answer }) => {
    const publicArea = answer.sized16();
    // Creation data and hash, then the ticket: who made the key, and this program knows that.
    answer.sized16();
    answer.sized16();
    answer.u16();
    answer.u32();
    answer.sized16();
    return { handle: handles[0]!, publicArea, name: answer.sized16() };
  });
}

export interface PublicNames {
  /** TPMT_PUBLIC. */
  publicArea: Uint8Array;
  name: Uint8Array;
  qualifiedName: Uint8Array;
}

export function readPublic(handle: number): TpmCommand<PublicNames> {
  return tpmCommand('ReadPublic', { handles: [handle] }, ({ parameters: answer }) => ({ publicArea: answer.sized16(), name: answer.sized16(), qualifiedName: answer.sized16() }));
}

/** Keeps a loaded key under a persistent handle, or removes it when both handles are that one. */
export function evictControl(handle: number, persistentHandle: number): TpmCommand<void> {
  return tpmCommand('EvictControl', { handles: [TPM_RH.owner, handle], authorizations: [NO_PASSWORD], parameters: new ByteWriter('big').u32(persistentHandle).bytes }, nothing);
}

export function flushContext(handle: number): TpmCommand<void> {
  return tpmCommand('FlushContext', { parameters: new ByteWriter('big').u32(handle).bytes }, nothing);
}
