/** `rkt/attest` where there is no Node: bundled for browsers and run with nothing but what browsers have. */
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { build } from 'esbuild';
import t from 'tap';
import { buildAttest } from '../../scripts/build-attest.ts';
import { predict, referenceDocument } from '../../src/attest/index.ts';
import { toHex } from '../../src/tpm/index.ts';
import { podLog, SAMPLE_UUID, samplePod } from '../helpers/sample-pod.ts';
import { SAMPLE_NONCE, softAuthority, softEvidence } from '../helpers/soft-tpm.ts';

/** Of Node's globals those that browsers have too. */
const BROWSER_GLOBALS = ['crypto', 'TextEncoder', 'TextDecoder', 'atob', 'btoa', 'URL', 'console'] as const;
const MAX_BUNDLE_BYTES = 100_000;

t.test('verifies in a browser', async (t) => {
  const { outputFiles } = await build({
    stdin: { contents: "export * from './src/attest/index.ts';", resolveDir: join(import.meta.dirname, '../..') },
    bundle: true, write: false, platform: 'browser', format: 'iife', globalName: 'attest', minify: true, target: 'es2022',
  });
  const { text } = outputFiles[0]!;
  t.ok(text.length < MAX_BUNDLE_BYTES, `${text.length} bytes`);
  t.notMatch(text, /node:|\brequire\(|process\./);
  const context = createContext(Object.fromEntries(BROWSER_GLOBALS.map((name) => [name, globalThis[name]])));
  const authority = softAuthority(t);
  const evidence = await softEvidence({ authority, log: podLog(samplePod()).bytes, runtimeData: { uuid: SAMPLE_UUID, dataHex: '' }, nonce: SAMPLE_NONCE });
  const input = { evidence: JSON.stringify(evidence), reference: JSON.stringify(referenceDocument(predict(samplePod()))), caPem: authority.pem, nonceHex: toHex(SAMPLE_NONCE) };
  const run = async (change: Partial<typeof input>): Promise<string> => {
    Object.assign(context, { input: JSON.stringify({ ...input, ...change }) });
    return await (runInContext(`${text};
      (async () => {
        const { evidence, reference, caPem, nonceHex } = JSON.parse(input);
        return attest.verdictText(await attest.verify({ evidence, caPem, nonceHex, references: [attest.parseReference(reference)] }));
      })()`, context) as Promise<string>);
  };
  t.match(await run({}), /The pod is the one that was expected/);
  t.match(await run({ nonceHex: '00'.repeat(16) }), /FAIL {2}Freshness/);
});

t.test('is imported from the package by its name', async (t) => {
  await buildAttest();
  const name = 'rkt/attest';
  const attest = await import(name) as typeof import('../../src/attest/index.ts');
  t.strictSame(attest.predict(samplePod()).measurements, predict(samplePod()).measurements);
  await t.rejects(attest.verify({ evidence: {}, nonceHex: '', caPem: '', references: [] }), { name: 'RktError', code: 'USAGE' });
});
