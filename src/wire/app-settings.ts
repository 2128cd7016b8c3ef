/** What annotations of an app say about its life. The host checks them before a pod is made, the agent acts on them. */

export const STOP_SIGNAL_ANNOTATION = 'coreos.com/rkt/stage2/stop-signal';
export const RESTART_ANNOTATION = 'coreos.com/rkt/stage2/restart';
/** appc executor: the app tells by sd_notify(3) when it is ready. */
export const NOTIFY_ANNOTATION = 'appc.io/executor/supports-systemd-notify';

export type RestartPolicy =
  /** A failure ends the pod, as it always did. */
  | { kind: 'no' }
  /** `maxRestarts` null: for ever. */
  | { kind: 'on-failure'; maxRestarts: number | null }
  | { kind: 'always' };

export interface AppSettings {
  /** Null: SIGTERM, to every process of the app. */
  stopSignal: number | null;
  restart: RestartPolicy;
  notifies: boolean;
}

/** @throws Error that names the annotation */
export function appSettings(annotations: readonly { name: string; value: string }[]): AppSettings {
  const valueOf = (name: string): string | undefined => annotations.findLast((annotation) => annotation.name === name)?.value;
  const stopSignal = valueOf(STOP_SIGNAL_ANNOTATION);
  const restart = valueOf(RESTART_ANNOTATION);
  const notifies = valueOf(NOTIFY_ANNOTATION);
  return {
    stopSignal: stopSignal === undefined ? null : explained(STOP_SIGNAL_ANNOTATION, () => parseSignal(stopSignal)),
    restart: restart === undefined ? { kind: 'no' } : explained(RESTART_ANNOTATION, () => parseRestartPolicy(restart)),
    // As rkt: any other text means no.
    notifies: notifies === 'true',
  };
}

function explained<T>(annotation: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new Error(`annotation ${annotation}: ${(error as Error).message}`);
  }
}

const MAX_RESTARTS = 1_000_000;

/** `no`, `on-failure[:MAX]`, `always`. @throws Error that says what was expected */
export function parseRestartPolicy(text: string): RestartPolicy {
  if (text === 'no' || text === 'always') return { kind: text };
  if (text === 'on-failure') return { kind: text, maxRestarts: null };
  const [kind, digits = '', ...rest] = text.split(':');
  const maxRestarts = decimal(digits);
  if (kind !== 'on-failure' || rest.length > 0 || maxRestarts === undefined || maxRestarts < 1 || maxRestarts > MAX_RESTARTS) {
    throw new Error(`expected no, on-failure, on-failure:N (N up to ${MAX_RESTARTS}) or always, found "${text.slice(0, 100)}"`);
  }
  return { kind, maxRestarts };
}

/** signal(7), x86 and Arm. */
const SIGNALS = 'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'.split(' ');
/** As C libraries count: they keep the first two for themselves. */
const RTMIN = 34;
const RTMAX = 64;

/** A number, or a name as `SIGTERM`, `term`, `SIGRTMIN+3`. @throws Error that says what was expected */
export function parseSignal(text: string): number {
  const upper = text.toUpperCase();
  const name = upper.startsWith('SIG') ? upper.slice('SIG'.length) : upper;
  const number = decimal(text) ?? realTimeSignal(name) ?? SIGNALS.indexOf(name) + 1;
  if (number < 1 || number > RTMAX) throw new Error(`expected a signal such as SIGTERM, SIGRTMIN+3 or 15, found "${text.slice(0, 100)}"`);
  return number;
}

function realTimeSignal(name: string): number | undefined {
  if (name === 'RTMIN') return RTMIN;
  if (name === 'RTMAX') return RTMAX;
  const offset = decimal(name.slice('RTMIN+'.length));
  if (offset === undefined || offset > RTMAX - RTMIN) return undefined;
  if (name.startsWith('RTMIN+')) return RTMIN + offset;
  return name.startsWith('RTMAX-') ? RTMAX - offset : undefined;
}

/** Undefined for anything but a few digits. */
function decimal(text: string): number | undefined {
  if (text === '' || text.length > 9) return undefined;
  for (const digit of text) if (!'0123456789'.includes(digit)) return undefined;
  return Number(text);
}
