/** The event loop: descriptors, timers, promises. C calls the tick whenever no promise job is pending. */
import {
  EINTR, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, NR_epoll_create1, NR_epoll_ctl, NR_epoll_wait, epoll_event_data, epoll_event_events,
  sizeof_epoll_event,
} from './abi.gen.ts';
import { check } from './linux/errors.ts';
import { monotonicMs } from './linux/time.ts';

/** Gets the EPOLL… bits that are true. */
export type Watcher = (events: number) => void;

const MAX_EVENTS = 64;

interface Timer {
  atMs: number;
  run: () => void;
}

const epollFd = check(sys.call(NR_epoll_create1, EPOLL_CLOEXEC), 'epoll_create1');
const watchers = new Map<number, { watcher: Watcher; events: number }>();
/** Ordered by time. */
const timers: Timer[] = [];
const received = new Uint8Array(sizeof_epoll_event * MAX_EVENTS);
const receivedView = new DataView(received.buffer);
const request = new Uint8Array(sizeof_epoll_event);
const requestView = new DataView(request.buffer);

function control(operation: number, fd: number, events: number): number {
  requestView.setUint32(epoll_event_events, events >>> 0, true);
  requestView.setInt32(epoll_event_data, fd, true);
  return sys.call(NR_epoll_ctl, epollFd, operation, fd, request);
}

/** Calls `watcher` while any of `events` is true; EPOLLERR and EPOLLHUP are always among them. Replaces an earlier watch of the descriptor. */
export function watch(fd: number, events: number, watcher: Watcher): void {
  const known = watchers.get(fd);
  if (known?.events !== events) check(control(known === undefined ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, events), 'epoll_ctl', fd);
  watchers.set(fd, { watcher, events });
}

/** Call it before the descriptor is closed. */
export function unwatch(fd: number): void {
  if (watchers.delete(fd)) control(EPOLL_CTL_DEL, fd, 0);
}

/** Cancels a timer that after() made; nothing happens when it has run. */
export interface TimerHandle {
  cancel(): void;
}

/** Runs `run` once, not before `delayMs` have passed. */
export function after(delayMs: number, run: () => void): TimerHandle {
  const timer: Timer = { atMs: monotonicMs() + delayMs, run };
  let index = timers.length;
  while (index > 0 && (timers[index - 1]?.atMs ?? 0) > timer.atMs) index--;
  timers.splice(index, 0, timer);
  return {
    cancel: () => {
      const at = timers.indexOf(timer);
      if (at >= 0) timers.splice(at, 1);
    },
  };
}

export const sleep = (delayMs: number): Promise<void> => new Promise((resolve) => void after(delayMs, resolve));

/** Resolves with the events of the first report, then stops watching. */
export function once(fd: number, events: number): Promise<number> {
  return new Promise((resolve) => {
    watch(fd, events, (happened) => {
      unwatch(fd);
      resolve(happened);
    });
  });
}

function tick(): void {
  const next = timers[0];
  const timeoutMs = next === undefined ? -1 : Math.max(0, Math.ceil(next.atMs - monotonicMs()));
  const count = sys.call(NR_epoll_wait, epollFd, received, MAX_EVENTS, timeoutMs);
  if (count < 0 && count !== -EINTR) check(count, 'epoll_wait');
  for (let index = 0; index < count; index++) {
    const offset = index * sizeof_epoll_event;
    const fd = receivedView.getInt32(offset + epoll_event_data, true);
    // Looked up each time: an earlier watcher of this round may have removed it. One that throws must not cost the others
    // their events: what is level-triggered comes again in the next round.
    watchers.get(fd)?.watcher(receivedView.getUint32(offset + epoll_event_events, true));
  }
  runTimers();
}

function runTimers(): void {
  if (timers.length === 0) return;
  const now = monotonicMs();
  while ((timers[0]?.atMs ?? Infinity) <= now) timers.shift()?.run();
}

/** Starts the loop (it begins when the program's top level has ended). `onError` gets every uncaught exception and rejection. */
export function runLoop(onError: (error: unknown) => void): void {
  sys.hooks(tick, onError);
}
