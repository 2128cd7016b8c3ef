/**
 * What the agent measures into the pod's TPM, each event before the thing it speaks of is done. The host is told of an event
 * first, so that it can write the log that belongs to the registers; it lets no other change of them pass.
 */
import { executeSync } from '../../src/tpm/command.ts';
import { pcrExtend } from '../../src/tpm/commands/pcr.ts';
import { toHex } from '../../src/tpm/bytes.ts';
import type { BankHashes } from '../../src/tpm/hash-algorithms.ts';
import { eventOf, type Measurement } from '../../src/tpm/measurements.ts';
import { openTpm, type TpmDevice } from './tpm-device.ts';

/** In C: under emulation the same in JavaScript takes a tenth of a second for a manifest. */
export const NATIVE_HASHES: BankHashes = { sha256: (data) => sys.hash(256, data), sha384: (data) => sys.hash(384, data) };

export class Measurer {
  readonly #tpm: TpmDevice;
  readonly #announce: (records: string[]) => void;

  /** @param announce tells the host. @throws SysError when the guest has no TPM */
  constructor(announce: (records: string[]) => void) {
    this.#tpm = openTpm();
    this.#announce = announce;
  }

  /** In this order, into all banks. @throws whatever goes wrong: then what was to be measured must not happen */
  measure(...measurements: readonly Measurement[]): void {
    const events = measurements.map((measurement) => eventOf(measurement, NATIVE_HASHES));
    this.#announce(events.map(({ record }) => toHex(record)));
    for (const { pcr, digests } of events) executeSync(this.#tpm, pcrExtend(pcr, digests));
  }
}
