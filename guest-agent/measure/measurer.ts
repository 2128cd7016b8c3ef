/**
 * What the agent measures into the pod's TPM, each event before the thing it speaks of is done. The host is told of an event
 * first, so that it can write the log that belongs to the registers; it lets no other change of them pass.
 */
import { NATIVE_HASHES } from '../../runtime/linux/hashes.ts';
import { concatBytes, toHex } from '../../src/tpm/bytes.ts';
import { executeSync, type TpmTransport } from '../../src/tpm/command.ts';
import { pcrExtend } from '../../src/tpm/commands/pcr.ts';
import { eventOf, type Measurement } from '../../src/tpm/measurements.ts';
import { openTpm, type TpmDevice } from './tpm-device.ts';

export interface MeasurerOptions {
  /** What the host has measured before the guest ran. */
  hostLog: Uint8Array;
  /** Tells the host of records of the event log, in hexadecimal. */
  announce(records: string[]): void;
  /** The log has grown by this. */
  onRecords(records: Uint8Array): void;
}

export class Measurer {
  readonly #tpm: TpmDevice;
  readonly #options: MeasurerOptions;
  /** The log in pieces. */
  readonly #log: Uint8Array[] = [];

  /** @throws SysError when the guest has no TPM */
  constructor(options: MeasurerOptions) {
    this.#tpm = openTpm();
    this.#options = options;
    this.#append(options.hostLog);
  }

  get log(): Uint8Array {
    return concatBytes(...this.#log);
  }

  /** For quotes. */
  readonly transport: TpmTransport = (command) => Promise.resolve(this.#tpm.transact(command));

  /** In this order, into all banks. @throws whatever goes wrong: then what was to be measured must not happen */
  measure(...measurements: readonly Measurement[]): void {
    const events = measurements.map((measurement) => eventOf(measurement, NATIVE_HASHES));
    this.#options.announce(events.map(({ record }) => toHex(record)));
    for (const { pcr, digests, record } of events) {
      executeSync((command) => this.#tpm.transact(command), pcrExtend(pcr, digests));
      this.#append(record);
    }
  }

  /**
   * Begins to measure one thing. What is returned waits until that has happened: only then may it be done.
   * @param isExpected the host has announced it to itself
   * @throws as `measure`, both
   */
  begin(measurement: Measurement, isExpected: boolean): () => void {
    const { pcr, digests, record } = eventOf(measurement, NATIVE_HASHES);
    const command = pcrExtend(pcr, digests);
    let answer: (() => Uint8Array) | undefined = this.#tpm.begin(command.bytes);
    // The host holds the command back until it has been told.
    if (!isExpected) this.#options.announce([toHex(record)]);
    let isDone = false;
    return () => {
      if (isDone) return;
      isDone = true;
      executeSync((again) => {
        const first = answer;
        answer = undefined;
        return first === undefined ? this.#tpm.transact(again) : first();
      }, command);
      this.#append(record);
    };
  }

  #append(records: Uint8Array): void {
    this.#log.push(records);
    this.#options.onRecords(records);
  }
}
