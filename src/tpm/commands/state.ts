/** Starting a TPM, testing it and asking what it is. */
import { RktError } from '../../error.ts';
import { ByteWriter } from '../bytes.ts';
import { nothing, tpmCommand, type TpmCommand } from '../command.ts';
import { PCR_COUNT, TPM_CAP } from '../constants.ts';
import { POD_BANKS, type PodBank } from '../hash-algorithms.ts';
import { readPcrSelections, type PcrSelection } from '../pcr-selection.ts';

const STARTUP = { clear: 0x0000, state: 0x0001 } as const;

/** Answered with TPM_RC_INITIALIZE by a TPM that has been started. */
export function startup(type: keyof typeof STARTUP): TpmCommand<void> {
  return tpmCommand('Startup', { parameters: new ByteWriter('big').u16(STARTUP[type]).bytes }, nothing);
}

export function shutdown(type: keyof typeof STARTUP): TpmCommand<void> {
  return tpmCommand('Shutdown', { parameters: new ByteWriter('big').u16(STARTUP[type]).bytes }, nothing);
}

/** Done by the host before the guest starts, it saves the guest's driver a wait of some 35 ms. */
export function selfTest(): TpmCommand<void> {
  const FULL = 1;
  return tpmCommand('SelfTest', { parameters: new ByteWriter('big').u8(FULL).bytes }, nothing);
}

/** The banks that are allocated, with their PCRs; banks without any are left out. */
export function getPcrBanks(): TpmCommand<PcrSelection[]> {
  const parameters = new ByteWriter('big').u32(TPM_CAP.pcrs).u32(0).u32(1).bytes;
  return tpmCommand('GetCapability', { parameters }, ({ parameters: answer }) => {
    answer.u8();
    const capability = answer.u32();
    if (capability !== TPM_CAP.pcrs) answer.fail(`capability ${capability}, expected ${TPM_CAP.pcrs}`);
    return readPcrSelections(answer).filter(({ pcrs }) => pcrs.length > 0);
  });
}

/**
 * A bank without all PCRs would not hold what is measured, and one more than these would hold nothing and be open to anybody.
 * @throws RktError UNSUPPORTED
 */
export function requirePodBanks(banks: readonly PcrSelection[]): void {
  const isComplete = (bank: PodBank): boolean => banks.some((allocated) => allocated.bank === bank && allocated.pcrs.length === PCR_COUNT);
  if (banks.length === POD_BANKS.length && POD_BANKS.every(isComplete)) return;
  throw new RktError('UNSUPPORTED', `the TPM has the PCR banks ${banks.map(({ bank, pcrs }) => `${bank} (${pcrs.length})`).join(', ')}, expected ${POD_BANKS.join(', ')} with ${PCR_COUNT} PCRs each`);
}

/** More than any answer of 4096 bytes holds. */
const MAX_PROPERTIES = 512;

/** TPM_PT properties from a number on, at most `count`. */
export function getProperties(first: number, count: number): TpmCommand<Map<number, number>> {
  const parameters = new ByteWriter('big').u32(TPM_CAP.tpmProperties).u32(first).u32(count).bytes;
  return tpmCommand('GetCapability', { parameters }, ({ parameters: answer }) => {
    answer.u8();
    const capability = answer.u32();
    if (capability !== TPM_CAP.tpmProperties) answer.fail(`capability ${capability}, expected ${TPM_CAP.tpmProperties}`);
    const properties = new Map<number, number>();
    for (let left = answer.count(MAX_PROPERTIES, 'properties'); left > 0; left--) properties.set(answer.u32(), answer.u32());
    return properties;
  });
}

export function getRandom(sizeBytes: number): TpmCommand<Uint8Array> {
  return tpmCommand('GetRandom', { parameters: new ByteWriter('big').u16(sizeBytes).bytes }, ({ parameters }) => parameters.sized16());
}
