/** Clients of enter.sock are kept apart, and a guest cannot fill the monitor's memory by way of them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';

t.test('clients of enter, and an agent that is not well-meaning', async (t) => {
  const program = await buildProgram({ entry: join(import.meta.dirname, '../helpers/enter-clients-program.ts'), output: join(buildCache(), 'enter-clients-program') });
  const directory = mkdtempSync(join(tmpdir(), 'rkt-enter-clients-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const { stdout, stderr, status } = spawnSync(program.output, [directory], { encoding: 'utf8', timeout: 30_000 });
  t.equal(status, 0, stderr + stdout);
  const observed = JSON.parse(stdout) as Record<string, unknown>;
  t.match(observed, {
    requestsDiffer: true,
    expected: [{ kind: 'enter', app: 'app', command: ['one'] }, { kind: 'enter', app: 'app', command: ['two'] }].map((measurement) => JSON.stringify(measurement)),
    forgotten: 0,
    signal: { type: 'signal', process: 1001, signal: 15 },
    afterTheEnd: [false, false, false],
    gone: { type: 'signal', process: 1002, signal: 1 },
    flooded: { heard: 4, isOver: true, last: { type: 'signal', process: 1003, signal: 1 } },
    lengthy: { heard: 0, isOver: true },
    nonsense: { type: 'exec', app: 7 },
    withoutDescriptors: { isBusy: false, servedLater: true },
  });
  t.match(observed['heard'], [
    [{ type: 'failed', request: 1, message: 'no' }],
    [{ type: 'created', request: 1, process: 1001 }, { type: 'exited', process: 1001, status: { code: 3 } }],
  ], 'each its own, under its own number');
});
