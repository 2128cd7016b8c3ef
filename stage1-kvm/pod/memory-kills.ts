/** What a person and the pod directory are told when the guest's kernel kills processes for want of memory. */
import type { AgentMessage } from '../../src/wire/messages.ts';
import { Stage1Error } from '../error.ts';
import { printError } from '../report.ts';
import { recordOutOfMemory } from './directory.ts';

type OutOfMemory = Extract<AgentMessage, { type: 'out-of-memory' }>;

const MIB = 2 ** 20;
/** More than any guest can have had: the number comes from the guest. */
const KILLS_MAX = 1e9;

/** @param podMemoryMiB what the whole machine has */
export function reportOutOfMemory({ app, killed, limitBytes }: OutOfMemory, podMemoryMiB: number): void {
  if (!Number.isSafeInteger(killed) || killed < 1 || killed > KILLS_MAX) throw new Stage1Error("the guest's agent broke the protocol: out-of-memory: killed");
  const reason = limitBytes === null ? `the ${podMemoryMiB} MiB of the pod are used up (--mem)` : `it may use ${Math.round(limitBytes / MIB)} MiB (resource/memory)`;
  printError(new Stage1Error(`app "${app}": out of memory: ${reason}; processes killed so far: ${killed}`));
  recordOutOfMemory(app, killed);
}
