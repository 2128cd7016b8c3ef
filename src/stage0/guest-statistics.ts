/** What runs in a pod and what it uses, as its agent tells. The answers come from the guest: nothing of them is believed beyond their shape. */
import { RktError } from '../error.ts';
import type { PodHandle } from '../pod/index.ts';
import { checkValue } from '../schema/appc.ts';
import { arrayOf, integerBetween, objectOf, optional, refined, stringValue } from '../schema/check.ts';
import type { Check } from '../schema/check.ts';
import type { AppUsage as ToldUsage, HostMessage, ProcessInfo } from '../wire/messages.ts';
import type { AgentConnection } from './guest-connection.ts';

/** An agent in an emulated guest on a busy host is slow; one that has not answered after this will not. */
const ANSWER_TIMEOUT_MS = 10_000;
const LIST_MAX = 10_000;
const TEXT_MAX_CHARACTERS = 4096;

/** Without those limits that the guest calls null. */
export type AppUsage = Omit<ToldUsage, 'memoryLimitBytes' | 'processesLimit'> & { memoryLimitBytes?: number; processesLimit?: number };

export interface PodUsage {
  /** The guest's clock, for differences. */
  uptimeMs: number;
  memoryTotalBytes: number;
  network: { receivedBytes: number; sentBytes: number };
  apps: AppUsage[];
}

export interface ProcessList {
  uptimeMs: number;
  /** May be more than are listed. */
  total: number;
  processes: ProcessInfo[];
}

const count = integerBetween(0, Number.MAX_SAFE_INTEGER);
const milliseconds: Check<number> = (value, place) => count(typeof value === 'number' ? Math.floor(value) : value, place);
const shortText = refined(stringValue, (text) => (text.length > TEXT_MAX_CHARACTERS ? 'too long' : undefined));

function listOf<T>(item: Check<T>): Check<T[]> {
  const list = arrayOf(item);
  return (value, place) => list(Array.isArray(value) && value.length > LIST_MAX ? 'too many' : value, place);
}

const podUsage = objectOf<PodUsage>({
  uptimeMs: milliseconds,
  memoryTotalBytes: count,
  network: objectOf<PodUsage['network']>({ receivedBytes: count, sentBytes: count }),
  apps: listOf(objectOf<AppUsage>({
    app: shortText, cpuMicroseconds: count, memoryBytes: count, memoryPeakBytes: count, memoryLimitBytes: optional(count), processes: count, processesLimit: optional(count),
    readBytes: count, writtenBytes: count,
  })),
});

const processList = objectOf<ProcessList>({
  uptimeMs: milliseconds,
  total: count,
  processes: listOf(objectOf<ProcessInfo>({ pid: count, parentPid: count, user: shortText, state: shortText, terminal: count, cpuMs: count, startedMs: count, command: shortText })),
});

let lastRequest = 0;

/** Throws RktError GUEST when the answer is none. */
export async function podUsageOf(pod: PodHandle, agent: AgentConnection): Promise<PodUsage> {
  const request = ++lastRequest;
  return await ask(pod, agent, { message: { type: 'usage', request }, answer: 'usage', check: podUsage });
}

/** Throws RktError GUEST; with the agent's words when it refuses. */
export async function processesOf(pod: PodHandle, agent: AgentConnection, app: string): Promise<ProcessList> {
  const request = ++lastRequest;
  return await ask(pod, agent, { message: { type: 'processes', request, app }, answer: 'processes', check: processList });
}

interface Question<T> {
  message: HostMessage & { request: number };
  answer: string;
  check: Check<T>;
}

async function ask<T>(pod: PodHandle, agent: AgentConnection, { message, answer, check }: Question<T>): Promise<T> {
  const origin = `pod ${JSON.stringify(pod.uuid)}`;
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new RktError('GUEST', `${origin}: its agent does not answer`)), ANSWER_TIMEOUT_MS);
  try {
    agent.send(message);
    const said = await Promise.race([agent.next((next) => next['request'] === message.request && (next['type'] === answer || next['type'] === 'failed')), late]);
    if (said['type'] === 'failed') throw new RktError('GUEST', `${origin}: ${typeof said['message'] === 'string' ? printable(said['message'].slice(0, TEXT_MAX_CHARACTERS)) : 'refused'}`);
    return checkValue(said, check, { origin: `${origin}: the answer of its agent`, code: 'GUEST' });
  } finally {
    clearTimeout(timer);
  }
}

/** A guest must not speak to the terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}|\p{Cf}|\p{Zl}|\p{Zp}/gu, '?');
}
