/** Pods of real processes: many at once, killed ones, and what gc makes of them. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { eventually, makeHost } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';
import { makeHelloImage, makeStubStage1 } from './helpers/stub-stage1.ts';

const PODS = 8;

function podsIn(host: Host, directory: string): string[] {
  const path = join(host.dataDir, 'pods', directory);
  // Made with the first pod that comes there.
  return existsSync(path) ? readdirSync(path) : [];
}

t.test('many pods at once, while others look', async (t) => {
  const host = makeHost('pods');
  t.teardown(host.close);
  const image = makeHelloImage(join(host.workDir, 'hello.aci'));
  const stage1 = makeStubStage1(join(host.workDir, 'stub.aci'));
  // Nothing is imported yet: all of them want to do it.
  const runs = Array.from({ length: PODS }, (_, index) => host.rkt(['run', `--stage1-path=${stage1}`, image], { env: { STUB_EXIT: String(index) } }));
  const looks = Array.from({ length: 4 }, () => host.rkt(['list']));
  for (const [index, result] of (await Promise.all(runs)).entries()) t.equal(result.status, index, result.stderr);
  for (const result of await Promise.all(looks)) t.strictSame([result.status, result.stderr], [0, '']);
  t.equal(podsIn(host, 'run').length, PODS);
  t.equal(readdirSync(join(host.dataDir, 'cas/tree')).length, 1);
  t.strictSame(readdirSync(join(host.dataDir, 'cas/tmp')), []);

  const collectors = await Promise.all([1, 2, 3].map(() => host.rkt(['gc', '--grace-period=0s'])));
  const collected = collectors.flatMap(({ stdout }) => stdout.toString().match(/Garbage collecting pod "[^"]+"/g) ?? []);
  for (const result of collectors) t.equal(result.status, 0, result.stderr);
  t.equal(new Set(collected).size, collected.length, 'no pod is collected twice');
  await host.rkt(['gc', '--grace-period=0s']);
  for (const directory of readdirSync(join(host.dataDir, 'pods'))) t.strictSame(podsIn(host, directory), [], directory);
});

t.test('a killed pod is exited at once, and only one of two run-prepared gets it', async (t) => {
  const host = makeHost('killed');
  t.teardown(host.close);
  const image = makeHelloImage(join(host.workDir, 'hello.aci'));
  const stage1 = makeStubStage1(join(host.workDir, 'stub.aci'));
  const uuid = (await host.rkt(['prepare', `--stage1-path=${stage1}`, image])).stdout.toString().trim();
  const both = [1, 2].map(() => host.start(['run-prepared', uuid], { env: { STUB_WAIT: '1' } }));
  await eventually('one of them runs', async () => /state=running/.test((await host.rkt(['status', uuid])).stdout.toString()));
  const loser = await Promise.race(both.map(({ ended }) => ended));
  t.equal(loser.status, 254);
  t.equal(loser.stderr, `run-prepared: pod "${uuid}" is not prepared\n`);

  for (const { child } of both) child.kill('SIGKILL');
  await Promise.all(both.map(({ ended }) => ended));
  t.match((await host.rkt(['status', uuid])).stdout.toString(), /^state=exited\n/);
  const marked = await host.rkt(['gc', '--mark-only']);
  t.equal(marked.stderr, `gc: moving pod "${uuid}" to garbage\n`);
  t.match((await host.rkt(['list', '--no-legend'])).stdout.toString(), /\texited garbage\t/);
  const kept = await host.rkt(['gc']);
  t.equal(kept.stderr, `gc: pod "${uuid}" not removed: still within grace period (30m0s)\n`);
  const gone = await host.rkt(['gc', '--grace-period=0s']);
  t.equal(gone.stdout.toString(), `Garbage collecting pod "${uuid}"\n`);
});

t.test('rkt killed while preparing leaves an aborted prepare, which gc removes', async (t) => {
  const host = makeHost('aborted');
  t.teardown(host.close);
  const image = makeHelloImage(join(host.workDir, 'hello.aci'));
  const stage1 = makeStubStage1(join(host.workDir, 'stub.aci'));
  await host.rkt(['fetch', image]);
  // Killed at growing distances from its start; some hit the moment when the pod directory is being written.
  for (let delayMs = 20; delayMs < 200; delayMs += 10) {
    const { child, ended } = host.start(['prepare', `--stage1-path=${stage1}`, image]);
    setTimeout(() => child.kill('SIGKILL'), delayMs);
    await ended;
  }
  for (const uuid of podsIn(host, 'prepared')) t.equal((await host.rkt(['run-prepared', uuid])).status, 0, 'whoever got to the end is whole');
  const gc = await host.rkt(['gc', '--grace-period=0s']);
  t.equal(gc.status, 0, gc.stderr);
  for (const directory of ['prepare', 'prepared', 'run', 'exited-garbage', 'garbage']) t.strictSame(podsIn(host, directory), [], directory);
});
