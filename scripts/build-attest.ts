/** Bundles `rkt/attest` into dist/attest.js: one module without dependencies, for Node and browsers. */
import { join } from 'node:path';
import { build } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');

export async function buildAttest(): Promise<void> {
  await build({
    absWorkingDir: ROOT,
    entryPoints: ['src/attest/index.ts'],
    outfile: 'dist/attest.js',
    bundle: true,
    format: 'esm',
    // Neither Node's modules nor npm's are found: whoever imports one breaks this build.
    platform: 'neutral',
    target: 'es2022',
    legalComments: 'none',
    logLevel: 'warning',
  });
}

if (import.meta.main) await buildAttest();
