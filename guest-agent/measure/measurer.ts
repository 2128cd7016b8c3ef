/**
 * What the agent measures into the pod's TPM, each event before the thing it speaks of is done. The host is told of an event
 * first, so that it can write the log that belongs to the registers; it lets no other change of them pass.
 */
import { NATIVE_HASHES } from '../../runtime/linux/hashes.ts';
import { concatBytes, toHex } from '../../src/tpm/bytes.ts';
import { executeSync, type TpmTransport } from '../../src/tpm/command.ts';
import { pcrExtend } from '../../src/tpm/commands/pcr.ts';
import { encodeLogEvent } from '../../src/tpm/event-log.ts';
import { eventOf, unrecordedEventOf, type Measurement } from '../../src/tpm/measurements.ts';
import { openTpm, type TpmDevice } from './tpm-device.ts';

export interface MeasurerOptions {
  /** What the host has measured before the guest ran. */
  hostLog: Uint8Array;
  /** Tells the host of records of the event log, in hexadecimal. */
  announce(records: string[]): void;
  /** The log has grown by this. */
  onRecords(records: Uint8Array): void;
}

/** The TPM is at work on it. */
export interface BegunMeasurement {
  /** Waits until it is measured: only then may be done what it speaks of. */
  complete(): void;
  /** Takes it into the guest's own copy of the log, if it is measured: once, before anything else is measured or answered. */
  record(): void;
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
   * Begins to measure one thing.
   * @param isExpected the host has announced it to itself
   * @throws as `measure`, and so does what is returned
   */
  begin(measurement: Measurement, isExpected: boolean): BegunMeasurement {
    const event = unrecordedEventOf(measurement, NATIVE_HASHES);
    const command = pcrExtend(event.pcr, event.digests);
    let answer: (() => Uint8Array) | undefined = this.#tpm.begin(command.bytes);
    // The host holds the command back until it has been told.
    if (!isExpected) this.#options.announce([toHex(encodeLogEvent(event))]);
    let isTried = false;
    let isMeasured = false;
    return {
      complete: () => {
        if (isTried) return;
        isTried = true;
        executeSync((again) => {
          const first = answer;
          answer = undefined;
          return first === undefined ? this.#tpm.transact(again) : first();
        }, command);
        isMeasured = true;
      },
      record: () => {
        if (isMeasured) this.#append(encodeLogEvent(event));
      },
    };
  }

  #append(records: Uint8Array): void {
    this.#log.push(records);
    this.#options.onRecords(records);
  }
}
