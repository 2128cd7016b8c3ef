/** Where the time of one run went. Pure. */

/** All on one monotonic clock, in milliseconds; null: never reached. */
export interface Moments {
  /** `rkt` was started. */
  origin: number;
  monitorStart: number;
  /** When the guest's clock was 0, computed from what the agent says. */
  guestStart: number | null;
  /** The agent was heard of first. */
  agentHeard: number | null;
  appStarted: number | null;
  appExited: number | null;
  end: number;
}

export interface Phases {
  stage0: number;
  vmmStart: number;
  kernel: number;
  agent: number;
  app: number;
  teardown: number;
  total: number;
}

/** A moment that was not reached makes the phase before it last until the end, and those after it 0. */
export function phasesOf(moments: Moments): Phases {
  const { origin, monitorStart, end } = moments;
  const reached = (moment: number | null, before: number): number => Math.max(before, moment ?? end);
  const guestStart = reached(moments.guestStart, monitorStart);
  const agentHeard = reached(moments.agentHeard, guestStart);
  const appStarted = reached(moments.appStarted, agentHeard);
  const appExited = reached(moments.appExited, appStarted);
  const between = (from: number, to: number): number => Math.round((to - from) * 10) / 10;
  return {
    stage0: between(origin, monitorStart),
    vmmStart: between(monitorStart, guestStart),
    kernel: between(guestStart, agentHeard),
    agent: between(agentHeard, appStarted),
    app: between(appStarted, appExited),
    teardown: between(appExited, end),
    total: between(origin, end),
  };
}

export function formatPhases(phases: Phases): string {
  const names = Object.keys(phases) as (keyof Phases)[];
  return names.map((name) => `${name.padEnd(10)}${phases[name].toFixed(1).padStart(9)} ms\n`).join('');
}
