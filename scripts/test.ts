/**
 * Runs tap over the tests (or those named as arguments), passes its output on in short form, and ends with
 * `N passed, N failed, N skipped`, counted in test files' top-level tests. Exit status 1 when anything failed.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const TAP = 'node_modules/.bin/tap';
const files = process.argv.slice(2);

const child = spawn(TAP, ['run', '--reporter=tap', ...files], { stdio: ['ignore', 'pipe', 'inherit'] });
let passed = 0;
let failed = 0;
let skipped = 0;
/** Output of the test file that is being reported, shown whole only when it failed. */
let pending: string[] = [];

for await (const line of createInterface({ input: child.stdout })) {
  pending.push(line);
  const test = /^ {4}(not ok|ok) \d+ - (.*?)(?: # (SKIP|TODO|time=).*)?$/.exec(line);
  if (test && !/^ {8}/.test(line)) {
    const [, result, name, directive] = test;
    const reason = /# SKIP (.*)$/.exec(line)?.[1] ?? '';
    if (directive === 'SKIP') {
      skipped++;
      console.log(`  skipped: ${name}${reason ? ` (${reason})` : ''}`);
    } else if (result === 'ok') {
      passed++;
      console.log(`  ok: ${name}${/# (time=.*)$/.exec(line)?.[1] ? `  ${/# time=(.*)$/.exec(line)?.[1] ?? ''}` : ''}`);
    } else {
      failed++;
      console.log(`  FAILED: ${name}`);
    }
  }
  const file = /^(not ok|ok) \d+ - (\S+\.test\.ts)(?: # (.*))?$/.exec(line);
  if (file) {
    console.log(`${file[1] === 'ok' ? 'ok' : 'FAILED'} ${file[2]} ${file[3] ?? ''}`);
    if (file[1] === 'not ok') console.log(pending.filter((text) => !/^\s*ok \d+ - (should|expected)/.test(text)).join('\n'));
    if (file[1] === 'not ok' && failed === 0) failed++;
    pending = [];
  }
}
const status = await new Promise<number>((resolve) => {
  if (child.exitCode !== null) resolve(child.exitCode);
  child.on('close', (code) => resolve(code ?? 1));
});
if (status !== 0 && failed === 0) failed = 1;
if (passed + failed === 0) failed = 1;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed > 0 ? 1 : 0;
