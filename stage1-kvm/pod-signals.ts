/** What a pod's monitor is told by signals: from its terminal, from supervisors, from `stop`. */
import { EPOLLIN, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH } from '../runtime/abi.gen.ts';
import { openSignals, takeSignals } from '../runtime/linux/signals.ts';
import { after, watch } from '../runtime/loop.ts';
import type { FrameChannel } from './frame-channel.ts';
import { notifySupervisor } from './notify.ts';
import { SHUTDOWN_GRACE_MS } from './options.ts';
import type { AppRelays } from './relay/app-relays.ts';
import type { RawTerminal } from './relay/terminal.ts';
import { SHUTDOWN_SLACK_MS, STOP_REQUEST } from './stop.ts';

/** Of the only app that can have the terminal. */
const TERMINAL_PROCESS = 1;

export interface SignalledPod {
  relays: AppRelays;
  terminal(): RawTerminal | null;
  /** To the agent; null as long as there is none. */
  channel(): FrameChannel | null;
  /** By itself: nothing has to be asked for. */
  isEnding(): boolean;
  /** Without its agent's help. */
  endNow(signal: number): void;
}

/** Signals wait from the moment this is made until they are watched. */
export class PodSignals {
  readonly #fd = openSignals([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGWINCH, STOP_REQUEST]);
  #hasAskedForEnd = false;

  /** Whether one of them, not `stop`, asked for the end of the pod. */
  get hasAskedForEnd(): boolean {
    return this.#hasAskedForEnd;
  }

  watch(pod: SignalledPod): void {
    watch(this.#fd, EPOLLIN, () => {
      for (const { signal, value } of takeSignals(this.#fd)) this.#take(pod, signal, value);
    });
  }

  #take(pod: SignalledPod, signal: number, value: number | undefined): void {
    switch (signal) {
      case SIGUSR1:
        pod.relays.reopenLogs();
        break;
      case SIGWINCH: {
        const size = pod.terminal()?.size();
        if (size !== undefined) pod.channel()?.send({ type: 'resize', process: TERMINAL_PROCESS, size });
        break;
      }
      // Who presses a key twice wants the end at once, who calls `stop` twice waits for it.
      case STOP_REQUEST:
        shutDown(pod, SIGTERM, Math.max(0, value ?? SHUTDOWN_GRACE_MS));
        break;
      default: {
        const isAgain = this.#hasAskedForEnd;
        this.#hasAskedForEnd = true;
        if (isAgain || pod.isEnding()) pod.endNow(signal);
        else shutDown(pod, signal, SHUTDOWN_GRACE_MS);
      }
    }
  }
}

function shutDown(pod: SignalledPod, signal: number, graceMs: number): void {
  const channel = pod.channel();
  if (channel === null) {
    pod.endNow(signal);
    return;
  }
  notifySupervisor('STOPPING=1');
  channel.send({ type: 'shutdown', graceMs });
  after(graceMs + SHUTDOWN_SLACK_MS, () => pod.endNow(signal));
}
