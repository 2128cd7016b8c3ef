/**
 * The virtio-vsock device (virtio 1.2, section 5.10), stream sockets only. Each connection ends in a stream descriptor
 * of this host; payload goes between it and guest memory by readv and writev, without passing through here.
 *
 * A connection never holds more than the buffer it told the guest about, the number of connections is bounded, and
 * replies to nonsense are bounded by not reading on: a guest can only stop itself.
 */
import { Connection, SEND_CREDIT, SEND_REQUEST, SEND_RESPONSE, SEND_SHUTDOWN } from './connection.ts';
import { GuestFault, type GuestMemory } from './guest-memory.ts';
import { EAGAIN, EINTR, MAX_SEGMENTS, type HostIo } from './host-io.ts';
import {
  HEADER_BYTES, HOST_CID, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND,
  TYPE_STREAM, WORD_BUF_ALLOC, WORD_DESTINATION_CID, WORD_DESTINATION_PORT, WORD_FLAGS, WORD_FWD_CNT, WORD_LENGTH, WORD_SOURCE_CID, WORD_SOURCE_PORT, WORD_TYPE_OP,
} from './packet.ts';
import { Chain, type Virtqueue } from './virtqueue.ts';

export const MAX_CONNECTIONS = 256;
/** The first connections get a large buffer; with many of them, memory counts for more than speed. */
const LARGE_BUFFER_BYTES = 256 << 10;
const SMALL_BUFFER_BYTES = 64 << 10;
const LARGE_BUFFER_CONNECTIONS = 64;

const CONNECT_TIMEOUT_MS = 10_000;
/** linux/net/vmw_vsock/virtio_transport_common.c waits as long for the other side's RST. */
const CLOSE_TIMEOUT_MS = 8_000;
/** Packets of one readv: 64 KiB when the guest posts buffers of 4 KiB. */
const RECEIVE_BATCH = 16;
/** Packets for unknown connections that wait for an answer; while full, nothing is taken from the guest. */
const MAX_RESETS = 64;
const FIRST_HOST_PORT = 0x40000000;
/** A busy guest must not keep the monitor from everything else. */
const PACKETS_PER_TURN = 256;

interface Reset {
  hostPort: number;
  guestPort: number;
  type: number;
}

export interface DeviceOptions {
  guestCid: number;
  io: HostIo;
  /** Interrupts the guest for one of the two queues. */
  interrupt(queue: 'receive' | 'transmit'): void;
  /**
   * The guest wants to reach `port` of the host.
   * @returns a non-blocking stream descriptor, or null to refuse
   */
  onGuestConnect(port: number): number | null;
  /** The guest broke the rules; the device is closed. */
  onFault(fault: GuestFault): void;
}

export interface DeviceQueues {
  memory: GuestMemory;
  /** Named from the guest's side, as virtio does. */
  receive: Virtqueue;
  transmit: Virtqueue;
}

export class ConnectError extends Error {}

export class VsockDevice {
  readonly #guestCid: number;
  readonly #io: HostIo;
  readonly #options: DeviceOptions;
  #queues: DeviceQueues | null = null;
  readonly #connections = new Map<string, Connection>();
  /** The guest is done with these, the local program has not yet taken everything. */
  readonly #draining = new Set<Connection>();
  readonly #work = new Set<Connection>();
  /** To be answered with RST. */
  #resets: Reset[] = [];
  #nextHostPort = FIRST_HOST_PORT;
  #lastUsed: Connection | undefined;
  #isScheduled = false;
  #isHandling = false;

  readonly #transmitChain = new Chain();
  readonly #receiveChains = Array.from({ length: RECEIVE_BATCH }, () => new Chain());
  readonly #header = new Uint32Array(HEADER_BYTES / 4);
  readonly #headerBytes = new Uint8Array(this.#header.buffer);
  readonly #addresses: number[] = [];
  readonly #lengths: number[] = [];

  constructor(options: DeviceOptions) {
    this.#guestCid = options.guestCid;
    this.#io = options.io;
    this.#options = options;
  }

  get connectionCount(): number {
    return this.#connections.size + this.#draining.size;
  }

  /** The guest's driver is up. */
  start(queues: DeviceQueues): void {
    this.#queues = queues;
    this.handle();
  }

  /** The guest's driver is gone or starts anew: every connection is lost, but for what is still to be passed on. */
  stop(): void {
    this.#queues = null;
    for (const connection of [...this.#connections.values()]) this.#onGuestReset(connection, 'the guest reset its vsock device');
    this.#work.clear();
    this.#resets = [];
  }

  /** Ends everything, also what is still being passed on. */
  close(): void {
    this.stop();
    for (const connection of this.#draining) this.#closeFd(connection);
    this.#draining.clear();
  }

  /**
   * Connects a local stream to a port of the guest. The descriptor belongs to the device from now on.
   * @param greeting given the chosen host port, what the local program reads first once the guest has accepted
   * Rejects with ConnectError when there are too many connections, the guest refuses or does not answer.
   */
  connect(fd: number, guestPort: number, greeting?: (hostPort: number) => Uint8Array): Promise<void> {
    if (this.connectionCount >= MAX_CONNECTIONS) {
      this.#io.close(fd);
      return Promise.reject(new ConnectError('too many vsock connections'));
    }
    const hostPort = this.#takeHostPort(guestPort);
    const connection = this.#add(hostPort, guestPort, fd, 'connecting');
    if (greeting !== undefined) connection.greeting = greeting(hostPort);
    connection.deadlineMs = this.#io.nowMs() + CONNECT_TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      connection.connect = { resolve, reject };
      this.#schedule(connection, SEND_REQUEST);
      this.handle();
    });
  }

  /** Whether `expire` has anything to wait for. */
  get hasDeadlines(): boolean {
    for (const connection of this.#connections.values()) if (connection.deadlineMs !== 0) return true;
    return false;
  }

  /** Gives up connections whose time is over; to be called about every second while there are deadlines. */
  expire(): void {
    const now = this.#io.nowMs();
    for (const connection of [...this.#connections.values()]) {
      if (connection.deadlineMs === 0 || connection.deadlineMs > now) continue;
      this.#queueReset(connection.hostPort, connection.guestPort);
      this.#drop(connection, 'the guest does not answer');
    }
    this.handle();
  }

  /**
   * Does what can be done now: takes the guest's packets, fills its receive buffers. To be called at every kick. Never
   * runs for longer than a bounded number of packets; the rest is done soon after.
   */
  handle(): void {
    const queues = this.#queues;
    if (queues === null) return;
    if (this.#isHandling) {
      this.#again();
      return;
    }
    this.#isHandling = true;
    try {
      const moreToTake = this.#takeTransmit(queues);
      const moreToSend = this.#fillReceive(queues);
      if (queues.transmit.needsInterrupt()) this.#options.interrupt('transmit');
      if (queues.receive.needsInterrupt()) this.#options.interrupt('receive');
      if (moreToSend || (moreToTake && this.#resets.length < MAX_RESETS)) this.#again();
    } catch (error) {
      if (!(error instanceof GuestFault)) throw error;
      this.close();
      this.#options.onFault(error);
    } finally {
      this.#isHandling = false;
    }
  }

  #again(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#io.soon(() => {
      this.#isScheduled = false;
      this.handle();
    });
  }

  /** @returns whether packets are left for which no kick will come */
  #takeTransmit({ memory, transmit }: DeviceQueues): boolean {
    const chain = this.#transmitChain;
    transmit.disableKicks();
    for (let budget = PACKETS_PER_TURN; budget > 0 && this.#resets.length < MAX_RESETS; budget--) {
      if (!transmit.peek(chain, 0)) {
        if (!transmit.enableKicks()) return false;
        transmit.disableKicks();
        continue;
      }
      transmit.advance(1);
      this.#onPacket(memory, chain);
      transmit.push(chain.head, 0);
    }
    return true;
  }

  /** @returns whether there is more to send for which no kick will come */
  #fillReceive(queues: DeviceQueues): boolean {
    const { receive } = queues;
    receive.disableKicks();
    for (let budget = PACKETS_PER_TURN; budget > 0; budget--) {
      if (this.#resets.length === 0 && this.#work.size === 0) return false;
      if (!receive.peek(this.#receiveChains[0]!, 0)) {
        if (!receive.enableKicks()) return false;
        receive.disableKicks();
        continue;
      }
      const reset = this.#resets.shift();
      if (reset !== undefined) {
        this.#sendReset(queues, reset);
        continue;
      }
      for (const connection of this.#work) {
        this.#work.delete(connection);
        this.#sendFor(queues, connection);
        // To the end of the line: streams take turns.
        if (connection.hasWork && this.#isKnown(connection)) this.#work.add(connection);
        break;
      }
    }
    return this.#resets.length > 0 || this.#work.size > 0;
  }

  /** One turn of a connection: one control packet, or one batch of data. */
  #sendFor(queues: DeviceQueues, connection: Connection): void {
    if ((connection.pending & SEND_REQUEST) !== 0) {
      connection.pending &= ~SEND_REQUEST;
      this.#sendControl(queues, connection, OP_REQUEST);
    } else if ((connection.pending & SEND_RESPONSE) !== 0) {
      connection.pending &= ~SEND_RESPONSE;
      this.#sendControl(queues, connection, OP_RESPONSE);
    } else if ((connection.pending & SEND_SHUTDOWN) !== 0) {
      connection.pending &= ~SEND_SHUTDOWN;
      this.#sendControl(queues, connection, OP_SHUTDOWN, connection.shutdownFlags);
    } else if (connection.state === 'established' && connection.readable && !connection.hostEnded && connection.credit > 0) {
      this.#sendData(queues, connection);
    } else if ((connection.pending & SEND_CREDIT) !== 0) {
      this.#sendControl(queues, connection, OP_CREDIT_UPDATE);
    }
  }

  /**
   * Reads from the local program straight into receive buffers. How many, its last data tells: preparing one costs more than
   * filling it, and most of what is not a long stream fits into one.
   */
  #sendData(queues: DeviceQueues, connection: Connection): void {
    const { receive, memory } = queues;
    const addresses = this.#addresses;
    const lengths = this.#lengths;
    let room = connection.credit;
    let segments = 0;
    let packets = 0;
    while (packets < connection.expectedPackets && room > 0) {
      const chain = this.#receiveChains[packets]!;
      if (!receive.peek(chain, packets)) break;
      const first = segments;
      const added = this.#payloadSegments(chain, { first, limitBytes: room });
      if (added === null) break;
      segments = added.segments;
      room -= added.bytes;
      packets++;
    }
    if (packets === 0) {
      // A receive buffer without room for data: the guest is of no use. Take it and say so.
      receive.peek(this.#receiveChains[0]!, 0);
      receive.advance(1);
      receive.push(this.#receiveChains[0]!.head, 0);
      return;
    }
    const got = this.#io.readv(connection.fd, addresses, lengths, segments);
    if (got === -EAGAIN) {
      connection.readable = false;
      if (connection.hungUp) this.#onHostEnd(connection);
      return;
    }
    if (got === -EINTR) return;
    if (got <= 0) {
      if (got < 0) connection.hungUp = true;
      this.#onHostEnd(connection);
      return;
    }
    let left = got;
    let used = 0;
    while (left > 0) {
      const chain = this.#receiveChains[used]!;
      const length = Math.min(left, chain.writableBytes - HEADER_BYTES);
      left -= length;
      used++;
      this.#fillHeader(connection, OP_RW, length);
      this.#copyIn(memory, chain);
      receive.push(chain.head, HEADER_BYTES + length);
    }
    receive.advance(used);
    const offered = connection.credit - room;
    connection.expectedPackets = got < offered ? used : Math.min(2 * connection.expectedPackets, RECEIVE_BATCH);
    connection.sent = (connection.sent + got) >>> 0;
  }

  /** Appends the writable segments of a chain behind the header. @returns null when there is no room in it or in the list */
  #payloadSegments(chain: Chain, options: { first: number; limitBytes: number }): { segments: number; bytes: number } | null {
    if (chain.writableBytes <= HEADER_BYTES || options.first + chain.count > MAX_SEGMENTS) return null;
    let skip = HEADER_BYTES;
    let room = options.limitBytes;
    let segments = options.first;
    for (let i = chain.readableCount; i < chain.count && room > 0; i++) {
      const length = chain.lengths[i]!;
      if (length <= skip) {
        skip -= length;
        continue;
      }
      const take = Math.min(length - skip, room);
      this.#addresses[segments] = chain.addresses[i]! + skip;
      this.#lengths[segments] = take;
      segments++;
      room -= take;
      skip = 0;
    }
    return { segments, bytes: options.limitBytes - room };
  }

  #sendControl(queues: DeviceQueues, connection: Connection, op: number, flags = 0): void {
    this.#fillHeader(connection, op, 0, flags);
    this.#sendHeader(queues);
  }

  #sendReset(queues: DeviceQueues, reset: Reset): void {
    const header = this.#header;
    header.fill(0);
    header[WORD_SOURCE_CID] = HOST_CID;
    header[WORD_DESTINATION_CID] = this.#guestCid;
    header[WORD_SOURCE_PORT] = reset.hostPort;
    header[WORD_DESTINATION_PORT] = reset.guestPort;
    header[WORD_TYPE_OP] = reset.type | (OP_RST << 16);
    this.#sendHeader(queues);
  }

  #fillHeader(connection: Connection, op: number, length: number, flags = 0): void {
    const header = this.#header;
    header[WORD_SOURCE_CID] = HOST_CID;
    header[WORD_SOURCE_CID + 1] = 0;
    header[WORD_DESTINATION_CID] = this.#guestCid;
    header[WORD_DESTINATION_CID + 1] = 0;
    header[WORD_SOURCE_PORT] = connection.hostPort;
    header[WORD_DESTINATION_PORT] = connection.guestPort;
    header[WORD_LENGTH] = length;
    header[WORD_TYPE_OP] = TYPE_STREAM | (op << 16);
    header[WORD_FLAGS] = flags;
    header[WORD_BUF_ALLOC] = connection.bufferBytes;
    header[WORD_FWD_CNT] = connection.forwarded;
    connection.advertised = connection.forwarded;
    connection.pending &= ~SEND_CREDIT;
  }

  /** Puts the header into the next receive buffer, which has been peeked at. */
  #sendHeader(queues: DeviceQueues): void {
    const chain = this.#receiveChains[0]!;
    const fits = chain.writableBytes >= HEADER_BYTES;
    if (fits) this.#copyIn(queues.memory, chain);
    queues.receive.advance(1);
    queues.receive.push(chain.head, fits ? HEADER_BYTES : 0);
  }

  #copyIn(memory: GuestMemory, chain: Chain): void {
    let done = 0;
    for (let i = chain.readableCount; i < chain.count && done < HEADER_BYTES; i++) {
      const length = Math.min(chain.lengths[i]!, HEADER_BYTES - done);
      if (length === 0) continue;
      memory.copyTo(chain.addresses[i]!, length === HEADER_BYTES ? this.#headerBytes : this.#headerBytes.subarray(done, done + length));
      done += length;
    }
  }

  #copyOutHeader(memory: GuestMemory, chain: Chain): void {
    let done = 0;
    for (let i = 0; i < chain.readableCount && done < HEADER_BYTES; i++) {
      const length = Math.min(chain.lengths[i]!, HEADER_BYTES - done);
      if (length === 0) continue;
      memory.copyFrom(chain.addresses[i]!, length === HEADER_BYTES ? this.#headerBytes : this.#headerBytes.subarray(done, done + length));
      done += length;
    }
  }

  /** One packet of the guest. */
  #onPacket(memory: GuestMemory, chain: Chain): void {
    if (chain.readableBytes < HEADER_BYTES) return;
    this.#copyOutHeader(memory, chain);
    const header = this.#header;
    // As Linux's vhost: what is not from this guest to this host is not answered.
    if (header[WORD_SOURCE_CID] !== this.#guestCid || header[WORD_SOURCE_CID + 1] !== 0 || header[WORD_DESTINATION_CID] !== HOST_CID || header[WORD_DESTINATION_CID + 1] !== 0) return;
    const guestPort = header[WORD_SOURCE_PORT]!;
    const hostPort = header[WORD_DESTINATION_PORT]!;
    const type = header[WORD_TYPE_OP]! & 0xffff;
    const op = header[WORD_TYPE_OP]! >>> 16;
    const length = header[WORD_LENGTH]!;
    const flags = header[WORD_FLAGS]!;
    if (type !== TYPE_STREAM) {
      if (op !== OP_RST) this.#queueReset(hostPort, guestPort, type);
      return;
    }
    const connection = this.#find(hostPort, guestPort);
    if (op === OP_REQUEST) {
      this.#onRequest({ host: hostPort, guest: guestPort }, connection);
      return;
    }
    if (connection === undefined) {
      if (op !== OP_RST) this.#queueReset(hostPort, guestPort);
      return;
    }
    connection.peerBufferBytes = header[WORD_BUF_ALLOC]!;
    connection.peerForwarded = header[WORD_FWD_CNT]!;
    switch (op) {
      case OP_RESPONSE: this.#onResponse(connection); break;
      case OP_RW: this.#onData(memory, connection, { chain, length }); break;
      case OP_SHUTDOWN: this.#onGuestShutdown(connection, flags & SHUTDOWN_BOTH); break;
      case OP_RST: this.#onGuestReset(connection); break;
      case OP_CREDIT_UPDATE: break;
      case OP_CREDIT_REQUEST: this.#schedule(connection, SEND_CREDIT); break;
      default: this.#abort(connection);
    }
    if (connection.hasWork && this.#isKnown(connection)) this.#work.add(connection);
  }

  #onRequest(ports: { host: number; guest: number }, existing: Connection | undefined): void {
    if (existing !== undefined) {
      this.#abort(existing);
      return;
    }
    const bufferBytes = this.#header[WORD_BUF_ALLOC]!;
    const forwarded = this.#header[WORD_FWD_CNT]!;
    const fd = this.connectionCount >= MAX_CONNECTIONS ? null : this.#options.onGuestConnect(ports.host);
    if (fd === null) {
      this.#queueReset(ports.host, ports.guest);
      return;
    }
    const connection = this.#add(ports.host, ports.guest, fd, 'established');
    connection.peerBufferBytes = bufferBytes;
    connection.peerForwarded = forwarded;
    this.#schedule(connection, SEND_RESPONSE);
    this.#watch(connection);
  }

  #onResponse(connection: Connection): void {
    if (connection.state !== 'connecting') {
      this.#abort(connection);
      return;
    }
    connection.state = 'established';
    connection.deadlineMs = 0;
    const greeting = connection.greeting;
    connection.greeting = null;
    // A fresh socket has room for it; if the program is gone already, its hang-up tells.
    if (greeting !== null) this.#io.write(connection.fd, greeting);
    this.#watch(connection);
    connection.connect?.resolve();
    connection.connect = null;
  }

  #onData(memory: GuestMemory, connection: Connection, packet: { chain: Chain; length: number }): void {
    const { chain, length } = packet;
    if (connection.state === 'closing') return;
    const overrun = connection.overflowBytes + length > connection.bufferBytes;
    if (connection.state !== 'established' || length > chain.readableBytes - HEADER_BYTES || overrun || (connection.guestShutdown & SHUTDOWN_SEND) !== 0) {
      this.#abort(connection);
      return;
    }
    if (length === 0) return;
    let written = 0;
    if (connection.hostDeaf) {
      written = length;
    } else if (connection.overflowBytes === 0 && connection.writable) {
      written = this.#writeOut(connection, chain, length);
    }
    if (written < length) this.#keep(memory, connection, { chain, skip: HEADER_BYTES + written, length: length - written });
    this.#forwardedMore(connection, written);
  }

  /** @returns how many bytes the local program's stream has taken */
  #writeOut(connection: Connection, chain: Chain, length: number): number {
    let skip = HEADER_BYTES;
    let left = length;
    let segments = 0;
    for (let i = 0; i < chain.readableCount && left > 0; i++) {
      const size = chain.lengths[i]!;
      if (size <= skip) {
        skip -= size;
        continue;
      }
      const take = Math.min(size - skip, left);
      this.#addresses[segments] = chain.addresses[i]! + skip;
      this.#lengths[segments] = take;
      segments++;
      left -= take;
      skip = 0;
    }
    const result = this.#io.writev(connection.fd, this.#addresses, this.#lengths, segments);
    if (result >= 0) return result;
    if (result === -EAGAIN) {
      connection.writable = false;
      return 0;
    }
    if (result === -EINTR) return 0;
    this.#onHostDeaf(connection);
    return length;
  }

  /** Copies what could not be written; bounded by the buffer the guest was told about. */
  #keep(memory: GuestMemory, connection: Connection, part: { chain: Chain; skip: number; length: number }): void {
    const { chain } = part;
    const kept = new Uint8Array(part.length);
    let skip = part.skip;
    let done = 0;
    for (let i = 0; i < chain.readableCount && done < part.length; i++) {
      const size = chain.lengths[i]!;
      if (size <= skip) {
        skip -= size;
        continue;
      }
      const take = Math.min(size - skip, part.length - done);
      for (let at = 0; at < take; at += 0x10000) {
        const step = Math.min(0x10000, take - at);
        memory.copyFrom(chain.addresses[i]! + skip + at, kept.subarray(done + at, done + at + step));
      }
      done += take;
      skip = 0;
    }
    connection.overflow.push(kept);
    connection.overflowBytes += kept.length;
  }

  #forwardedMore(connection: Connection, bytes: number): void {
    connection.forwarded = (connection.forwarded + bytes) >>> 0;
    if (((connection.forwarded - connection.advertised) >>> 0) >= connection.bufferBytes / 2) this.#schedule(connection, SEND_CREDIT);
  }

  /** Passes on what was kept; then the end of the guest's data, if it has come. */
  #flush(connection: Connection): void {
    while (connection.overflow.length > 0 && connection.writable) {
      const chunk = connection.overflow[0]!;
      const result = connection.hostDeaf ? chunk.length : this.#io.write(connection.fd, chunk);
      if (result === -EINTR) continue;
      if (result === -EAGAIN) {
        connection.writable = false;
        break;
      }
      if (result < 0) {
        this.#onHostDeaf(connection);
        break;
      }
      if (result === chunk.length) connection.overflow.shift();
      else connection.overflow[0] = chunk.subarray(result);
      connection.overflowBytes -= result;
      this.#forwardedMore(connection, result);
    }
    if (connection.overflowBytes === 0) this.#passEnd(connection);
  }

  #passEnd(connection: Connection): void {
    if (this.#draining.has(connection)) {
      this.#draining.delete(connection);
      this.#closeFd(connection);
      return;
    }
    if (connection.guestShutdown === SHUTDOWN_BOTH) {
      this.#abort(connection);
      return;
    }
    if ((connection.guestShutdown & SHUTDOWN_SEND) !== 0 && !connection.guestEndPassed && connection.fd >= 0) {
      connection.guestEndPassed = true;
      this.#io.shutdownWrite(connection.fd);
    }
  }

  #onGuestShutdown(connection: Connection, flags: number): void {
    if (connection.state === 'connecting') {
      this.#abort(connection);
      return;
    }
    connection.guestShutdown |= flags;
    if ((flags & SHUTDOWN_RECEIVE) !== 0 && !connection.hostEnded) {
      connection.hostEnded = true;
      if (connection.fd >= 0 && connection.guestShutdown !== SHUTDOWN_BOTH) this.#io.shutdownRead(connection.fd);
    }
    if (connection.state === 'closing') this.#abort(connection);
    else if (connection.overflowBytes === 0) this.#passEnd(connection);
  }

  /** The guest has forgotten the connection. What it sent before is still passed on when it had said that it was done. */
  #onGuestReset(connection: Connection, reason = 'connection refused by the guest'): void {
    const finished = (connection.guestShutdown & SHUTDOWN_SEND) !== 0 && connection.overflowBytes > 0;
    if (!finished) {
      this.#drop(connection, reason);
      return;
    }
    this.#forget(connection, { keepFd: true });
    this.#draining.add(connection);
  }

  /** The local program sends no more (or is gone). */
  #onHostEnd(connection: Connection): void {
    connection.hostEnded = true;
    connection.readable = false;
    const flags = connection.hungUp ? SHUTDOWN_BOTH : SHUTDOWN_SEND;
    this.#tellShutdown(connection, flags);
  }

  #onHostDeaf(connection: Connection): void {
    connection.hostDeaf = true;
    const dropped = connection.overflowBytes;
    connection.overflow = [];
    connection.overflowBytes = 0;
    if (this.#draining.has(connection)) return;
    this.#forwardedMore(connection, dropped);
    this.#tellShutdown(connection, SHUTDOWN_RECEIVE);
  }

  #tellShutdown(connection: Connection, flags: number): void {
    if ((connection.shutdownFlags | flags) === connection.shutdownFlags) return;
    connection.shutdownFlags |= flags;
    this.#schedule(connection, SEND_SHUTDOWN);
    if (connection.shutdownFlags === SHUTDOWN_BOTH) {
      connection.state = 'closing';
      connection.deadlineMs = this.#io.nowMs() + CLOSE_TIMEOUT_MS;
      connection.overflow = [];
      connection.overflowBytes = 0;
      this.#closeFd(connection);
    }
  }

  #watch(connection: Connection): void {
    this.#io.watch(connection.fd, ({ readable, writable, hungUp }) => {
      if (hungUp) connection.hungUp = true;
      if (writable || hungUp) {
        connection.writable = true;
        if (connection.overflowBytes > 0) this.#flush(connection);
      }
      if (connection.fd < 0 || !this.#isKnown(connection)) {
        this.handle();
        return;
      }
      if (readable || hungUp) connection.readable = true;
      // Nothing is left to read, and the other direction has been closed too.
      if (hungUp && connection.hostEnded) this.#tellShutdown(connection, SHUTDOWN_BOTH);
      if (connection.hasWork) this.#work.add(connection);
      this.handle();
    });
  }

  #schedule(connection: Connection, work: number): void {
    connection.pending |= work;
    this.#work.add(connection);
  }

  /** Tells the guest that the connection is over, and forgets it. */
  #abort(connection: Connection): void {
    this.#queueReset(connection.hostPort, connection.guestPort);
    this.#drop(connection, 'the guest broke the connection');
  }

  #drop(connection: Connection, reason: string): void {
    const { connect } = connection;
    connection.connect = null;
    this.#forget(connection);
    connect?.reject(new ConnectError(reason));
  }

  #forget(connection: Connection, options: { keepFd: boolean } = { keepFd: false }): void {
    this.#connections.delete(keyOf(connection.hostPort, connection.guestPort));
    this.#work.delete(connection);
    if (this.#lastUsed === connection) this.#lastUsed = undefined;
    if (!options.keepFd) this.#closeFd(connection);
  }

  #closeFd(connection: Connection): void {
    if (connection.fd < 0) return;
    this.#io.unwatch(connection.fd);
    this.#io.close(connection.fd);
    connection.fd = -1;
  }

  #queueReset(hostPort: number, guestPort: number, type = TYPE_STREAM): void {
    this.#resets.push({ hostPort, guestPort, type });
  }

  #add(hostPort: number, guestPort: number, fd: number, state: 'connecting' | 'established'): Connection {
    const bufferBytes = this.#connections.size < LARGE_BUFFER_CONNECTIONS ? LARGE_BUFFER_BYTES : SMALL_BUFFER_BYTES;
    const connection = new Connection({ host: hostPort, guest: guestPort }, fd, { state, bufferBytes });
    this.#connections.set(keyOf(hostPort, guestPort), connection);
    return connection;
  }

  #find(hostPort: number, guestPort: number): Connection | undefined {
    const last = this.#lastUsed;
    if (last !== undefined && last.hostPort === hostPort && last.guestPort === guestPort) return last;
    const found = this.#connections.get(keyOf(hostPort, guestPort));
    if (found !== undefined) this.#lastUsed = found;
    return found;
  }

  #isKnown(connection: Connection): boolean {
    return this.#connections.get(keyOf(connection.hostPort, connection.guestPort)) === connection;
  }

  #takeHostPort(guestPort: number): number {
    for (;;) {
      const port = this.#nextHostPort;
      this.#nextHostPort = port >= 0x7fffffff ? FIRST_HOST_PORT : port + 1;
      if (!this.#connections.has(keyOf(port, guestPort))) return port;
    }
  }
}

function keyOf(hostPort: number, guestPort: number): string {
  return `${hostPort}:${guestPort}`;
}
