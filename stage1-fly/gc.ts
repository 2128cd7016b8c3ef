/** `gc UUID`: ends what a monitor that was killed left running, and removes what it left in the pod directory. */
import { gc as removeSockets } from '../stage1-kvm/gc.ts';
import { parseStopArguments } from '../stage1-kvm/options.ts';
import { killInPod } from './processes.ts';

export function gc(args: readonly string[]): never {
  killInPod(parseStopArguments(args).uuid);
  return removeSockets(args);
}
