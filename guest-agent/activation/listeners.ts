/** Socket activation (sd_listen_fds(3)): the sockets of an app's `socketActivated` ports are opened here and handed to it. */
import { F_DUPFD_CLOEXEC, NR_fcntl } from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import { close, setNonBlocking } from '../../runtime/linux/fds.ts';
import { listenTcp } from '../../runtime/linux/tcp.ts';

/** Where the app finds the first. */
export const LISTEN_FDS_START = 3;
/** The agent's own copies lie above all places where apps get theirs. */
const OWN_FDS_START = 256;
export const LISTEN_FDS_MAX = 128;

export interface ListenPort {
  name: string;
  port: number;
}

/** Open for as long as the app lives, through all its restarts: who connects in between waits. */
export class Listeners {
  readonly fds: readonly number[];
  readonly #names: readonly string[];

  /** @throws SysError when a port is taken */
  constructor(ports: readonly ListenPort[]) {
    const fds: number[] = [];
    try {
      for (const { port } of ports) fds.push(open(port));
    } catch (error) {
      fds.forEach(close);
      throw error;
    }
    this.fds = fds;
    this.#names = ports.map(({ name }) => name);
  }

  /** The variables for a process with that number, whose name for itself must be in them. */
  environment(pid: number): Record<string, string> {
    return { LISTEN_PID: String(pid), LISTEN_FDS: String(this.fds.length), LISTEN_FDNAMES: this.#names.join(':') };
  }

  close(): void {
    this.fds.forEach(close);
  }
}

function open(port: number): number {
  const fd = listenTcp(port);
  // As systemd hands them over.
  setNonBlocking(fd, false);
  try {
    return check(sys.call(NR_fcntl, fd, F_DUPFD_CLOEXEC, OWN_FDS_START), 'dup', fd);
  } finally {
    close(fd);
  }
}
