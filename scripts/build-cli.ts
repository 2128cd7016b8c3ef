/**
 * Bundles the command line into dist/cli: `main.js` with everything (what a command does not need is not evaluated),
 * `rkt.js` that starts it with V8's compiled code from the last time, and `cache/` with that code. One file, because
 * finding each further file costs Node half a millisecond; the cache makes its size not matter.
 * Takes a second.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import type { Plugin } from 'esbuild';

/**
 * Node's own modules, loaded when something in them is first used. An `import` would load them at once, and read each
 * of their exports, which for `node:util` and `node:fs` loads dozens of modules more; together they take as long as
 * Node itself does to start.
 * The exports are inherited from a proxy, because esbuild copies own properties at once and keeps the prototype.
 */
const builtinsOnDemand: Plugin = {
  name: 'builtins-on-demand',
  setup: (context) => {
    context.onResolve({ filter: /^node:/ }, ({ path }) => ({ path, namespace: 'builtin' }));
    context.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({ contents: builtinContents(path), loader: 'js' }));
  },
};

function builtinContents(path: string): string {
  if (path === 'node:process') return 'module.exports = process;';
  return `module.exports = Object.create(new Proxy({}, { get: (_, name) => process.getBuiltinModule(${JSON.stringify(path)})[name] }));`;
}

/**
 * Packages that few commands need, and that are larger than all of rkt: they stay where npm has put them, and are loaded
 * when something in them is first used.
 */
const packagesOnDemand: Plugin = {
  name: 'packages-on-demand',
  setup: (context) => {
    context.onResolve({ filter: /^(openpgp|tuf-js|@sigstore|yaml)(\/|$)/ }, ({ path }) => ({ path, namespace: 'package' }));
    context.onLoad({ filter: /.*/, namespace: 'package' }, ({ path }) => ({ contents: `module.exports = process.getBuiltinModule('node:module').createRequire(process.argv[1])(${JSON.stringify(path)});`, loader: 'js' }));
  },
};

/** The cache is a help, not a need: whoever may not write it (or has another Node) goes without. */
const ENTRY = `process.getBuiltinModule('node:module').enableCompileCache(import.meta.dirname + '/cache');
await import('./main.js');
`;

const ROOT = join(import.meta.dirname, '..');
const OUTPUT_DIRECTORY = join(ROOT, 'dist/cli');

export async function buildCli(): Promise<void> {
  // Beside, so that an rkt that is started meanwhile finds the old one.
  const fresh = `${OUTPUT_DIRECTORY}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  await build({
    absWorkingDir: ROOT,
    entryPoints: { main: 'src/cli/main.ts' },
    outdir: fresh,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    plugins: [builtinsOnDemand, packagesOnDemand],
    // Names stay readable in stack traces; what is left out is syntax and space.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    logLevel: 'warning',
  });
  writeFileSync(join(fresh, 'rkt.js'), ENTRY);
  replaceDirectory(OUTPUT_DIRECTORY, fresh);
  warmUp();
}

function replaceDirectory(directory: string, fresh: string): void {
  const old = `${directory}.old`;
  rmSync(old, { recursive: true, force: true });
  if (existsSync(directory)) renameSync(directory, old);
  renameSync(fresh, directory);
  rmSync(old, { recursive: true, force: true });
}

/** Runs rkt once, so that the cache is there before the first user is. */
function warmUp(): void {
  const { status, stderr } = spawnSync(process.execPath, [join(OUTPUT_DIRECTORY, 'rkt.js'), 'version'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the command line that was just built does not start: ${stderr}`);
}

if (import.meta.main) await buildCli();
