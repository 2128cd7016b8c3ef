/** How the monitor reaches the guest's agent. Nothing above this interface knows what is below. */
export interface Transport {
  /** Resolves when the agent listens. Rejects when that will never be. */
  readonly agentListens: Promise<void>;
  /** What QEMU is given for its vsock device. The transport keeps it open until `qemuStarted`. */
  readonly qemuFd: number;
  readonly guestCid: number;
  qemuStarted(): void;
  /** A non-blocking stream to a port of the guest. Rejects when it is refused. */
  open(port: number): Promise<number>;
  /** Ends every stream; what the guest had said before is still passed on by the streams themselves. */
  close(): void;
}
