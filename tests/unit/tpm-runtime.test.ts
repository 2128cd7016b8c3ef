/** src/tpm in the runtime's engine: the same values as in Node. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';
import { toHex } from '../../src/tpm/index.ts';
import { podLog, samplePod } from '../helpers/sample-pod.ts';
import { observeTpm, type Observed } from '../helpers/tpm-observations.ts';

t.test('monitor and agent compute what Node computes', async (t) => {
  const program = await buildProgram({ entry: join(import.meta.dirname, '../helpers/tpm-runtime-program.ts'), output: join(buildCache(), 'tpm-runtime-program') });
  const input = JSON.stringify({ ...samplePod(), logHex: toHex(podLog(samplePod()).bytes) });
  const { stdout, stderr } = spawnSync(program.output, [input], { encoding: 'utf8', timeout: 30_000 });
  t.equal(stderr, '');
  const { values, times } = JSON.parse(stdout) as Observed;
  const expected = observeTpm(input, () => performance.now());
  for (const [name, value] of Object.entries(expected.values)) t.strictSame(values[name], JSON.parse(JSON.stringify(value)), name);
  t.comment(Object.entries(times).map(([name, ms]) => `${name} ${Math.round(ms * 10) / 10} ms`).join(', '));
});
