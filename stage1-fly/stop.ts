/** `stop [--force] UUID` */
import { NR_execve } from '../runtime/abi.gen.ts';
import { exit, spawnSteps, waitFor } from '../runtime/linux/process.ts';
import { STAGE1_FAILURE } from '../stage1-kvm/error.ts';
import { parseStopArguments } from '../stage1-kvm/options.ts';
import { stop as stopMonitor } from '../stage1-kvm/stop.ts';
import { killInPod } from './processes.ts';

/** This program under that name deals with the monitor and nothing else. */
export const STOP_MONITOR = 'stop-monitor';

/** By force also ends what the app has started, which outlives a monitor that is killed. */
export function stop(args: readonly string[]): never {
  const { uuid, force } = parseStopArguments(args);
  if (!force) return stopMonitor(args);
  const end = waitFor(spawnSteps([{ name: 'execve', operation: [NR_execve, '/proc/self/exe', [STOP_MONITOR, ...args], []] }]));
  if (end.kind !== 'code' || end.code !== 0) exit(end.kind === 'code' ? end.code : STAGE1_FAILURE);
  killInPod(uuid);
  exit(0);
}
