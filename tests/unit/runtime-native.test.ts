/** The runtime as its programs see it: one program that tries everything, natively. */
import { createHash } from 'node:crypto';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';

const MAX_PROGRAM_BYTES = 1 << 20;

const entry = join(import.meta.dirname, '../helpers/runtime-program.ts');
const program = await buildProgram({ entry, output: join(buildCache(), 'runtime-program') });

/** As the program computes it. */
function hashChain(algorithm: string): number[] {
  let chain = Buffer.alloc(0);
  for (let length = 0; length < 300; length++) {
    const message = Buffer.alloc(chain.length + length, length);
    message.set(chain);
    chain = createHash(algorithm).update(message).digest();
  }
  return [...chain];
}

t.test('what the runtime offers', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rkt-runtime-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const result = spawnSync(program.output, [directory], { encoding: 'utf8', env: { RUNTIME_TEST: 'a=b' }, timeout: 20_000 });
  t.equal(result.stderr, '');
  const observed = JSON.parse(result.stdout) as Record<string, unknown>;
  const expected: Record<string, unknown> = {
    shell: { output: 'grüß\n', end: { kind: 'code', code: 7 } },
    noProgram: { output: '', end: { index: 2, errno: 2 } },
    ignored: { output: 'second\n', end: { kind: 'code', code: 0 } },
    results: { output: 'through a result', end: { kind: 'code', code: 'through a result'.length } },
    prepared: { output: 'preparedprepared', end: { kind: 'code', code: 8 } },
    notPreparable: ['TypeError: prepare: numbers and buffers expected', 'TypeError: prepare: numbers and buffers expected', 'RangeError: operation 0 is none that was prepared'],
    badResult: 'RangeError: result of operation 0 used by operation 0',
    badOperation: 'TypeError: array of strings expected',
    nul: 'TypeError: string with a NUL byte',
    killed: { kind: 'signal', signal: 15, coreDumped: false },
    gone: false,
    environment: 'a=b',
    file: { text: 'content', mode: 0o600, link: 'b/file' },
    names: ['b', 'link'],
    missing: `SysError: open ${directory}/none: ENOENT`,
    tooLarge: `SysError: read ${directory}/a/b/file: EFBIG`,
    notThere: true,
    json: { a: [1, 'ü'] },
    badJson: true,
    sha256: hashChain('sha256'),
    sha384: hashChain('sha384'),
    hex: [Buffer.from(Array.from({ length: 256 }, (_, index) => index)).toString('hex'), true, false, false, ''],
    badHash: 'RangeError: hash: 256 or 384 bits',
    locks: [0, -11],
    passed: { sent: 3, count: 3, fds: 3, distinct: 3, bytes: [1, 2, 3] },
    memory: { bytes: [8, 7, 6, 5, 4, 3, 2, 1], word: 513 },
    vectors: [1, 2, 3, 4, 5],
    spliced: { moved: 3, bytes: [9, 8, 7] },
    unmapped: 0,
    event: [true, false],
    tooManyFds: 'RangeError: more than 1 descriptors in one message',
    unix: { count: 1, byte: 42, uid: process.getuid?.(), none: true },
    refused: `SysError: connect ${directory}/nobody: ENOENT`,
    terminal: { is: true, isNot: false, size: { rows: 5, cols: 7 } },
    loopback: true,
    addresses: ['10.0.2.15', '253.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2', '0.0.0.0.0.0.0.0.0.0.255.255.1.2.3.4', '0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0'],
    prefix: [8, 0, 32],
    badAddresses: Array.from({ length: 9 }, () => true),
    timers: ['10', '30'],
    lines: ['F one\nF \nF three\nP rest\n', 15, 'F one\nF \n', 5, 0, 0, 'RangeError: lines: two counts'],
    slept: true,
    signals: [true],
    watcherCalls: 2,
    errors: { code: true, text: 'SysError: call path: EACCES', unknown: 'SysError: x: errno 9999' },
    random: true,
    reaped: true,
  };
  for (const [name, value] of Object.entries(expected)) t.strictSame(observed[name], value, name);
  t.strictSame(observed['uncaught'], ['Error: from a watcher', 'Error: from a watcher', 'Error: handled later', 'Error: never handled']);
  t.strictSame(readdirSync(directory), []);
});

t.test('the result is static and small, and made again from the same input it is the same', async (t) => {
  t.ok(program.sizeBytes < MAX_PROGRAM_BYTES, `${program.sizeBytes} bytes`);
  t.match(execFileSync('readelf', ['-l', program.output], { encoding: 'utf8' }), /^(?![\s\S]*INTERP)/, 'no interpreter');
  const copy = await buildProgram({ entry, output: join(buildCache(), 'again/runtime-program') });
  t.equal(Buffer.compare(readFileSync(copy.output), readFileSync(program.output)), 0);
});

t.test('nothing is built when nothing has changed', async (t) => {
  const before = statSync(program.output).mtimeMs;
  const start = performance.now();
  const again = await buildProgram({ entry, output: program.output });
  t.equal(again.rebuilt, false);
  t.equal(statSync(program.output).mtimeMs, before);
  t.ok(performance.now() - start < 1000);
});

t.test('errors before there is a loop', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rkt-runtime-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const source = join(directory, 'broken.ts');
  writeFileSync(source, "function f(): never {\n  throw new TypeError('at once');\n}\nf();\n");
  const broken = await buildProgram({ entry: source, output: join(directory, 'broken') });
  const result = spawnSync(broken.output, [], { encoding: 'utf8' });
  t.equal(result.status, 70);
  t.match(result.stderr, /^uncaught: TypeError: at once\n {4}at f \(broken:\d+:\d+\)\n/);
  writeFileSync(source, 'const x = ;\n');
  await t.rejects(buildProgram({ entry: source, output: join(directory, 'broken') }));
});
