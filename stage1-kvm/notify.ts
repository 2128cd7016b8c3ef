/** sd_notify(3), for pods that run as a service. */
import { AF_UNIX, MSG_NOSIGNAL, NR_sendto, SOCK_DGRAM } from '../runtime/abi.gen.ts';
import { close } from '../runtime/linux/fds.ts';
import { environmentVariable } from '../runtime/linux/process.ts';
import { socket } from '../runtime/linux/sockets.ts';
import { after } from '../runtime/loop.ts';
import { lastLines } from './tail-buffer.ts';

/** Nobody who asked for it, or nobody who listens: nothing happens. */
export function notifySupervisor(state: string): void {
  const path = environmentVariable('NOTIFY_SOCKET');
  if (path === undefined || (!path.startsWith('/') && !path.startsWith('@'))) return;
  const name = sys.utf8(path).subarray(0, -1);
  // `@` stands for the NUL that begins an abstract name.
  if (path.startsWith('@')) name[0] = 0;
  const address = new Uint8Array(2 + name.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const fd = socket(AF_UNIX, SOCK_DGRAM);
  const message = sys.utf8(state).subarray(0, -1);
  sys.call(NR_sendto, fd, message, message.length, MSG_NOSIGNAL, address, address.length);
  close(fd);
}

const STATUS_INTERVAL_MS = 100;
const STATUS_MAX_CHARACTERS = 256;

/** STATUS= of apps, passed on: made one harmless line, and no oftener than the supervisor can bear. The last word counts. */
export class SupervisorStatus {
  #next: string | undefined;
  #isPaused = false;

  /** @param text from the guest */
  say(text: unknown): void {
    if (environmentVariable('NOTIFY_SOCKET') === undefined) return;
    this.#next = typeof text === 'string' ? (lastLines(text.slice(0, STATUS_MAX_CHARACTERS), 1)[0] ?? '') : '';
    this.#pass();
  }

  #pass(): void {
    if (this.#isPaused || this.#next === undefined) return;
    notifySupervisor(`STATUS=${this.#next}`);
    this.#next = undefined;
    this.#isPaused = true;
    after(STATUS_INTERVAL_MS, () => {
      this.#isPaused = false;
      this.#pass();
    });
  }
}
