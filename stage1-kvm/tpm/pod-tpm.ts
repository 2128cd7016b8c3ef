/**
 * The pod's TPM and its event log. The monitor sits between swtpm and the guest: it measures before the guest's first
 * instruction, passes the guest's commands on as far as a guest may send them, and writes down each event that the agent
 * measures; what is not announced as an event is not extended into the registers of the pod.
 */
import { EPOLLIN, SOCK_STREAM } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { NATIVE_HASHES } from '../../runtime/linux/hashes.ts';
import { socketPair } from '../../runtime/linux/sockets.ts';
import { after, unwatch, watch, type TimerHandle } from '../../runtime/loop.ts';
import { concatBytes, equalBytes, fromHex, toHex } from '../../src/tpm/bytes.ts';
import { errorResponse, executeSync, type TpmTransport } from '../../src/tpm/command.ts';
import { pcrExtend } from '../../src/tpm/commands/pcr.ts';
import { getPcrBanks, requirePodBanks, selfTest } from '../../src/tpm/commands/state.ts';
import { TPM_CC } from '../../src/tpm/constants.ts';
import { digestIn, encodeLogEvent, encodeLogHeader, parseEventLog, type LogEvent } from '../../src/tpm/event-log.ts';
import { guestMay, parsePcrExtend, type PcrExtend } from '../../src/tpm/guest-command-policy.ts';
import { POD_BANKS, type TaggedDigest } from '../../src/tpm/hash-algorithms.ts';
import { hostEvents, type HostFacts } from '../../src/tpm/host-measurements.ts';
import { unrecordedEventOf, type Measurement } from '../../src/tpm/measurements.ts';
import { PCR } from '../../src/tpm/pcr-table.ts';
import { extended } from '../../src/tpm/pcr.ts';
import { TPM_RC } from '../../src/tpm/response-code.ts';
import { encodePending, readRegister } from '../../src/tpm/write-ahead.ts';
import { reapChild } from '../children.ts';
import { Stage1Error } from '../error.ts';
import { TPM_STATE_PATH } from '../pod/directory.ts';
import { createEventLog, type EventLogFile } from './event-log-file.ts';
import { startSwtpm, type Swtpm } from './swtpm.ts';
import { exchange, serveCommands, TpmBus } from './tpm-bus.ts';

/** Registers of the pod: only the agent extends them, and only with what it has announced. */
const POD_PCRS: readonly number[] = [PCR.phases, PCR.pod];
/** The announcement and the command come by different ways. */
const ANNOUNCEMENT_TIMEOUT_MS = 3_000;
/** No agent has more events under way. */
const MAX_ANNOUNCED = 1024;
const RESPONSE_CODE_OFFSET = 6;

interface Announced {
  event: LogEvent;
  record: Uint8Array;
  /** The command that the agent sends for it, unless it puts it in other words. */
  commandHex: string;
  /** Null: the register has not been read yet. */
  note: PreparedNote | null;
}

/** What is written down before the event, made while the guest is still at work. */
interface PreparedNote {
  bytes: Uint8Array;
  /** Good for as long as these are what they were. */
  logSizeBytes: number;
  before: readonly TaggedDigest[];
}

export class PodTpm {
  /** QEMU's end; closed once QEMU has it. */
  readonly qemuFd: number;
  readonly #guestFd: number;
  readonly #swtpm: Swtpm;
  /** What measureHost has written. */
  hostLog = new Uint8Array(0);
  #bus: TpmBus | null = null;
  #log: EventLogFile | null = null;
  #announced: Announced[] = [];
  /** Values of the pod's registers, as they were read once and extended since: nothing else changes them. */
  readonly #registers = new Map<number, readonly TaggedDigest[]>();
  #whenAnnounced: (() => void) | null = null;
  /** What is left to do for the last event. */
  #settle: (() => void) | null = null;
  #endGuest: (() => void) | null = null;

  /** @throws Stage1Error */
  constructor(user: number | null) {
    this.#swtpm = startSwtpm(TPM_STATE_PATH, user);
    [this.#guestFd, this.qemuFd] = socketPair(SOCK_STREAM);
  }

  /**
   * Extends what the host measures and begins the log. QEMU may be starting meanwhile: it asks its TPM who it is before
   * it runs the guest, and is answered from `serve` on.
   * @throws Stage1Error: then the guest must not run
   */
  measureHost(facts: HostFacts): void {
    try {
      this.#measureHost(facts);
    } catch (error) {
      if (error instanceof Stage1Error) throw error;
      throw new Stage1Error(`the start of the pod could not be measured: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #measureHost(facts: HostFacts): void {
    const send = (command: Uint8Array): Uint8Array => exchange(this.#swtpm.fd, command);
    requirePodBanks(executeSync(send, getPcrBanks()));
    const records = [encodeLogHeader()];
    for (const { pcr, digests, record } of hostEvents(facts, NATIVE_HASHES)) {
      executeSync(send, pcrExtend(pcr, digests));
      records.push(record);
    }
    // Now, so that the guest's driver need not wait for it.
    executeSync(send, selfTest());
    this.hostLog = concatBytes(...records);
    this.#log = createEventLog(this.hostLog);
  }

  /** From here on QEMU is answered. @param onEnd the TPM is gone: the pod must end */
  serve(onEnd: (error: Stage1Error) => void): void {
    const { fd, pidfd, pid, errorFd } = this.#swtpm;
    this.#bus = new TpmBus(fd, onEnd);
    watch(pidfd, EPOLLIN, () => {
      unwatch(pidfd);
      close(pidfd);
      reapChild(pid);
    });
    close(errorFd);
    this.#endGuest = serveCommands(this.#guestFd, (command) => this.#answerGuest(command));
  }

  /** The host's own commands. */
  transact(command: Uint8Array): Promise<Uint8Array> {
    if (this.#bus === null) throw new Stage1Error('the TPM of the pod is not there yet');
    return this.#bus.transact(command);
  }

  readonly transport: TpmTransport = (command) => this.transact(command);

  /** The agent is about to extend these events. @param records of the event log, hexadecimal. @throws RktError */
  announce(records: readonly string[]): void {
    for (const hex of records) {
      const record = fromHex(hex, 'record of an event');
      const [event, ...more] = parseEventLog(concatBytes(encodeLogHeader(), record)).events;
      if (event === undefined || more.length > 0 || !POD_PCRS.includes(event.pcr) || !isInAllBanks(event)) throw new Stage1Error('the agent announced something that is no event of a pod');
      this.#expect(event, record);
    }
  }

  /** The agent will be asked for something that it measures so. Returns what takes that back, unless it has happened. */
  expect(measurement: Measurement): () => void {
    const event = unrecordedEventOf(measurement, NATIVE_HASHES);
    const announced = this.#expect(event, encodeLogEvent(event));
    return () => {
      this.#announced = this.#announced.filter((other) => other !== announced);
    };
  }

  #expect(event: LogEvent, record: Uint8Array): Announced {
    const before = this.#registers.get(event.pcr);
    const note = before === undefined || this.#log === null ? null : prepareNote(this.#log, before, event);
    const announced = { event, record, commandHex: toHex(pcrExtend(event.pcr, event.digests).bytes), note };
    if (this.#announced.push(announced) > MAX_ANNOUNCED) throw new Stage1Error('the agent announces events and does not measure them');
    this.#whenAnnounced?.();
    return announced;
  }

  close(): void {
    this.#endGuest?.();
    this.#bus?.close();
    this.#settle?.();
    this.#log?.close();
  }

  async #answerGuest(command: Uint8Array): Promise<Uint8Array> {
    const commandHex = toHex(command);
    const announced = this.#announced.find((candidate) => candidate.commandHex === commandHex);
    if (announced !== undefined) return await this.#measure(command, announced);
    const verdict = guestMay(command);
    if (!verdict.allowed) return errorResponse(verdict.responseCode);
    const pcr = extendedPcr(command);
    if (pcr === null || !POD_PCRS.includes(pcr)) return await this.#bus!.transact(command);
    const extend = parsePcrExtend(command);
    const later = extend === null ? undefined : await this.#whatWasAnnounced(extend);
    return later === undefined ? errorResponse(TPM_RC.locality) : await this.#measure(command, later);
  }

  /** The order is that of src/tpm/write-ahead.ts: note, TPM, log. The guest has its answer before the note is gone. */
  async #measure(command: Uint8Array, announced: Announced): Promise<Uint8Array> {
    this.#settle?.();
    const log = this.#log;
    if (log === null) return errorResponse(TPM_RC.locality);
    this.#announced.splice(this.#announced.indexOf(announced), 1);
    const { event, record, note } = announced;
    const before = this.#registers.get(event.pcr) ?? (await readRegister(this.transport, event.pcr));
    const stillHolds = note?.before === before && note.logSizeBytes === log.sizeBytes();
    log.announce((stillHolds ? note : prepareNote(log, before, event)).bytes);
    const response = await this.#bus!.transact(command);
    const isMeasured = new DataView(response.buffer, response.byteOffset).getUint32(RESPONSE_CODE_OFFSET) === TPM_RC.success;
    if (isMeasured) log.append(record);
    this.#settle = () => {
      this.#settle = null;
      log.settle();
      if (isMeasured) this.#registers.set(event.pcr, afterEvent(before, event));
      else this.#registers.delete(event.pcr);
    };
    after(0, () => this.#settle?.());
    return response;
  }

  /** Undefined: nobody has spoken of it, and will not. */
  async #whatWasAnnounced({ pcr, digests }: PcrExtend): Promise<Announced | undefined> {
    const find = (): Announced | undefined => this.#announced.find(({ event }) => event.pcr === pcr && sameDigests(event.digests, digests));
    const known = find();
    if (known !== undefined) return known;
    let timer: TimerHandle | undefined;
    await new Promise<void>((resolve) => {
      this.#whenAnnounced = () => {
        if (find() !== undefined) resolve();
      };
      timer = after(ANNOUNCEMENT_TIMEOUT_MS, resolve);
    });
    timer?.cancel();
    this.#whenAnnounced = null;
    return find();
  }
}

function prepareNote(log: EventLogFile, before: readonly TaggedDigest[], event: LogEvent): PreparedNote {
  const logSizeBytes = log.sizeBytes();
  return { bytes: encodePending({ logSizeBytes, before, event }, NATIVE_HASHES), logSizeBytes, before };
}

/** Once each: what is extended otherwise is not what a log tells. */
function isInAllBanks(event: LogEvent): boolean {
  return event.digests.length === POD_BANKS.length && POD_BANKS.every((bank) => digestIn(event, bank) !== undefined);
}

/** @param before one for each of POD_BANKS, in their order, as readRegister gives them */
function afterEvent(before: readonly TaggedDigest[], event: LogEvent): TaggedDigest[] {
  return POD_BANKS.map((algorithm, index) => ({ algorithm, digest: extended(algorithm, before[index]!.digest, digestIn(event, algorithm)!, NATIVE_HASHES) }));
}

/** Commands that change a PCR begin with its handle. */
function extendedPcr(command: Uint8Array): number | null {
  const view = new DataView(command.buffer, command.byteOffset, command.length);
  const EXTENDING: readonly number[] = [TPM_CC.PCR_Extend, TPM_CC.PCR_Event, TPM_CC.EventSequenceComplete];
  return EXTENDING.includes(view.getUint32(6)) && command.length >= 14 ? view.getUint32(10) : null;
}

function sameDigests(a: readonly TaggedDigest[], b: readonly TaggedDigest[]): boolean {
  return a.length === b.length && a.every(({ algorithm, digest }, i) => b[i]!.algorithm === algorithm && equalBytes(digest, b[i]!.digest));
}
