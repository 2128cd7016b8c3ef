/** What a guest answers about itself is taken for nothing but what it should be. */
import t from 'tap';
import type { PodHandle } from '../../src/pod/index.ts';
import type { AgentConnection } from '../../src/stage0/guest-connection.ts';
import { podUsageOf, printable, processesOf } from '../../src/stage0/guest-statistics.ts';

const pod = { uuid: 'U' } as PodHandle;

/** Answers every question with these fields. */
function agent(answer: Record<string, unknown>): AgentConnection {
  let request = 0;
  return {
    send: (message) => {
      request = (message as { request: number }).request;
    },
    next: (matches) => {
      const message = { request, ...answer };
      return matches(message) ? Promise.resolve(message) : new Promise(() => undefined);
    },
    ended: new Promise(() => undefined),
    close: () => undefined,
  };
}

const APP = { app: 'a', cpuMicroseconds: 1, memoryBytes: 2, memoryPeakBytes: 3, memoryLimitBytes: null, processes: 4, processesLimit: 5, readBytes: 6, writtenBytes: 7 };
const USAGE = { type: 'usage', uptimeMs: 12.5, memoryTotalBytes: 100, network: { receivedBytes: 1, sentBytes: 2 }, apps: [APP] };

t.test('usage', async (t) => {
  t.match(await podUsageOf(pod, agent(USAGE)), { uptimeMs: 12, apps: [{ app: 'a', processesLimit: 5 }] });
  t.notOk('memoryLimitBytes' in ((await podUsageOf(pod, agent(USAGE))).apps[0] ?? {}));
  for (const wrong of [
    { uptimeMs: '1' }, { uptimeMs: NaN }, { memoryTotalBytes: -1 }, { network: null }, { apps: {} }, { apps: [null] }, { apps: [{ ...APP, cpuMicroseconds: 1.5 }] },
    { apps: [{ ...APP, app: 'x'.repeat(5000) }] }, { apps: Array.from({ length: 10_001 }, () => APP) }, { apps: [{ ...APP, readBytes: 2 ** 60 }] },
  ]) {
    await t.rejects(podUsageOf(pod, agent({ ...USAGE, ...wrong })), { code: 'GUEST', message: /^pod "U": the answer of its agent: / }, JSON.stringify(wrong).slice(0, 60));
  }
});

t.test('processes, and refusals in words that do no harm', async (t) => {
  const process = { pid: 1, parentPid: 0, user: 'root', state: 'S', terminal: 0, cpuMs: 0, startedMs: 0, command: 'x' };
  const list = { type: 'processes', uptimeMs: 1, total: 1, processes: [process] };
  t.match(await processesOf(pod, agent(list), 'a'), { total: 1 });
  await t.rejects(processesOf(pod, agent({ ...list, processes: [{ ...process, command: 7 }] }), 'a'), { code: 'GUEST' });
  await t.rejects(processesOf(pod, agent({ type: 'failed', message: 'no\x1b[2J\u202e' }), 'a'), { code: 'GUEST', message: 'pod "U": no?[2J?' });
  await t.rejects(processesOf(pod, agent({ type: 'failed' }), 'a'), { message: 'pod "U": refused' });
  t.equal(printable('a\u2028b\u200fc\tdé'), 'a?b?c?dé');
});
