/** One stream between a program of the host and one of the guest: the numbers of the virtio-vsock credit scheme. */

/** Work for the next packets to the guest, as bits. */
export const SEND_REQUEST = 1;
export const SEND_RESPONSE = 2;
export const SEND_CREDIT = 4;
export const SEND_SHUTDOWN = 8;

export type ConnectionState =
  /** We asked, the guest has not answered. */
  | 'connecting'
  | 'established'
  /** The local program is gone; the guest has been told and will confirm by RST. */
  | 'closing';

/** How a connection attempt ended, for whoever asked for it. */
export interface ConnectResult {
  resolve(): void;
  reject(error: Error): void;
}

export class Connection {
  readonly hostPort: number;
  readonly guestPort: number;
  /** The local program's stream; -1 when it is closed. */
  fd: number;
  state: ConnectionState;
  connect: ConnectResult | null = null;
  /** Written to the local program before anything else when the guest accepts. */
  greeting: Uint8Array | null = null;
  /** Monotonic milliseconds after which connecting or closing is given up; 0: never. */
  deadlineMs = 0;

  pending = 0;
  shutdownFlags = 0;

  /** The guest's buffer for this stream and how much it has consumed (modulo 2^32), as it last said. */
  peerBufferBytes = 0;
  peerForwarded = 0;
  /** Sent to the guest, modulo 2^32. */
  sent = 0;
  /** Packets that the next data for the guest is expected to fill. */
  expectedPackets = 1;

  /** Our buffer, as the guest is told. */
  readonly bufferBytes: number;
  /** Passed on to the local program, and what of that the guest has been told; both modulo 2^32. */
  forwarded = 0;
  advertised = 0;
  /** What the local program has not taken yet. */
  overflow: Uint8Array[] = [];
  overflowBytes = 0;

  /** The stream may have something to read / room to write: set by epoll edges, cleared by EAGAIN. */
  readable = false;
  writable = true;
  hungUp = false;
  /** Nothing more comes from the local program. */
  hostEnded = false;
  /** The local program does not read any more. */
  hostDeaf = false;
  /** SHUTDOWN flags the guest has sent. */
  guestShutdown = 0;
  /** The end of the guest's data has been passed on. */
  guestEndPassed = false;

  constructor(ports: { host: number; guest: number }, fd: number, options: { state: ConnectionState; bufferBytes: number }) {
    this.hostPort = ports.host;
    this.guestPort = ports.guest;
    this.fd = fd;
    this.state = options.state;
    this.bufferBytes = options.bufferBytes;
  }

  /** How much may be sent to the guest now, in bytes. A guest that contradicts itself gets nothing. */
  get credit(): number {
    const inFlight = (this.sent - this.peerForwarded) >>> 0;
    return inFlight > this.peerBufferBytes ? 0 : this.peerBufferBytes - inFlight;
  }

  /** Whether a packet to the guest could be made now. */
  get hasWork(): boolean {
    return this.pending !== 0 || (this.state === 'established' && this.readable && !this.hostEnded && this.credit > 0);
  }
}
