/** What rkt prints: tables, times, sizes, errors, against outputs of Go's tabwriter and rkt's documentation. */
import t from 'tap';
import { errorChain, formatError } from '../../src/cli/error-text.ts';
import { absoluteTime, binarySize, relativeTime } from '../../src/cli/humanize.ts';
import { createReporter } from '../../src/cli/reporter.ts';
import type { Result } from '../../src/cli/reporter.ts';
import { alignTabs } from '../../src/cli/tabwriter.ts';
import { RktError } from '../../src/error.ts';
import { formatDuration, parseDuration } from '../../src/pod/duration.ts';

t.test('columns are as wide as their widest cell, in steps of eight', async (t) => {
  const text = alignTabs(['UUID\tAPP\tIMAGE NAME\tSTATE', '5bc080ca\tredis\tredis\trunning', '\tetcd\tcoreos.com/etcd:v2.0.9\t', '3089337c\tnginx\tnginx\texited']);
  t.equal(text, [
    'UUID\t\tAPP\tIMAGE NAME\t\tSTATE',
    '5bc080ca\tredis\tredis\t\t\trunning',
    '\t\tetcd\tcoreos.com/etcd:v2.0.9\t',
    '3089337c\tnginx\tnginx\t\t\texited',
    '',
  ].join('\n'));
});

t.test('a line without a cell ends the column', async (t) => {
  t.equal(alignTabs(['a\tb', 'long line without tabs', 'cccccccccc\td']), 'a\tb\nlong line without tabs\ncccccccccc\td\n');
  t.equal(alignTabs(['abcdefgh\tx', 'abcdefg\ty']), 'abcdefgh\tx\nabcdefg\t\ty\n');
  t.equal(alignTabs(['ä\tx', 'abcdefg\ty']), 'ä\tx\nabcdefg\ty\n', 'width in characters');
  t.equal(alignTabs([]), '');
});

t.test('relative times', async (t) => {
  const now = 1_700_000_000_000;
  const cases: [number, string][] = [
    [0, 'now'], [999, 'now'], [1000, '1 second ago'], [59_999, '59 seconds ago'], [60_000, '1 minute ago'], [3 * 60_000, '3 minutes ago'],
    [3_600_000, '1 hour ago'], [7_200_000, '2 hours ago'], [86_400_000, '1 day ago'], [6 * 86_400_000, '6 days ago'], [7 * 86_400_000, '1 week ago'],
    [15 * 86_400_000, '2 weeks ago'], [30 * 86_400_000, '1 month ago'], [61 * 86_400_000, '2 months ago'], [360 * 86_400_000, '1 year ago'],
    [3 * 360 * 86_400_000, '3 years ago'], [-7_200_000, '2 hours from now'],
  ];
  for (const [ageMs, expected] of cases) t.equal(relativeTime(now - ageMs, now), expected);
});

t.test('absolute times in Go\'s layout', async (t) => {
  const zone = process.env.TZ;
  t.teardown(() => {
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  });
  process.env.TZ = 'UTC';
  t.equal(absoluteTime(Date.UTC(2015, 11, 14, 12, 30, 33, 652)), '2015-12-14 12:30:33.652 +0000 UTC');
  t.equal(absoluteTime(Date.UTC(2015, 11, 14, 12, 30, 33, 600)), '2015-12-14 12:30:33.6 +0000 UTC');
  t.equal(absoluteTime(Date.UTC(2015, 0, 4, 2, 3, 4, 0)), '2015-01-04 02:03:04 +0000 UTC');
  process.env.TZ = 'Asia/Kolkata';
  t.match(absoluteTime(Date.UTC(2015, 11, 14, 12, 0, 0)), /^2015-12-14 17:30:00 \+0530 /);
});

t.test('sizes', async (t) => {
  const cases: [number, string][] = [[0, '0B'], [9, '9B'], [10, '10B'], [1023, '1023B'], [1024, '1.0KiB'], [1536, '1.5KiB'], [16384, '16KiB'], [113_309_184, '108MiB'], [5 * 2 ** 30, '5.0GiB']];
  for (const [bytes, expected] of cases) t.equal(binarySize(bytes), expected);
});

t.test('durations', async (t) => {
  const cases: [string, number, string][] = [['30m', 1_800_000, '30m0s'], ['0s', 0, '0s'], ['24h', 86_400_000, '24h0m0s'], ['1.5s', 1500, '1.5s'], ['1h2m3s', 3_723_000, '1h2m3s'], ['100ms', 100, '100ms'], ['-1s', -1000, '-1s']];
  for (const [text, milliseconds, printed] of cases) {
    t.equal(parseDuration(text), milliseconds);
    t.equal(formatDuration(milliseconds), printed);
  }
  t.equal(parseDuration('0'), 0);
  for (const text of ['', '5', 'm', '1x', '1m 2s', '1..5s']) t.equal(parseDuration(text), undefined, text);
});

function printed(debug: boolean, work: (reporter: ReturnType<typeof createReporter>) => void): { stdout: string; stderr: string } {
  const output = { stdout: '', stderr: '' };
  work(createReporter({ command: 'run', debug, write: (fd, text) => (fd === 1 ? (output.stdout += text) : (output.stderr += text)) }));
  return output;
}

t.test('errors: the message, the innermost cause, the hint', async (t) => {
  const inner = Object.assign(new Error('ENOENT: no such file or directory, open \'/x\''), { errno: -2, code: 'ENOENT', syscall: 'open', path: '/x' });
  const middle = new RktError('IO', 'cannot read the pod', { cause: inner });
  const outer = new RktError('IO', 'error setting up stage0', { cause: middle, hint: 'look at /x' });
  t.strictSame(errorChain(outer), ['error setting up stage0', 'cannot read the pod', 'open /x: no such file or directory']);
  t.equal(printed(false, (reporter) => reporter.error(outer)).stderr, 'run: error setting up stage0: open /x: no such file or directory\n  hint: look at /x\n');
  t.equal(
    printed(true, (reporter) => reporter.error(outer)).stderr,
    'run: error setting up stage0\n  └─cannot read the pod\n    └─open /x: no such file or directory\n  hint: look at /x\n',
  );
  t.equal(formatError('cannot get pod', new RktError('NOT_FOUND', 'no matches found for "x"'), false), 'cannot get pod: no matches found for "x"');
  t.equal(formatError('', new RktError('IO', 'cannot open /x: no such file', { cause: new Error('no such file') }), false), 'cannot open /x: no such file', 'nothing twice');
});

t.test('results: tables with and without legend, JSON with whole nanoseconds', async (t) => {
  const show = (result: Result): string => printed(false, (reporter) => reporter.result(result)).stdout;
  t.equal(show({ kind: 'table', legend: ['ID', 'NAME'], rows: [['sha512-91e98d7f1679', 'a']], trailingTab: true }), 'ID\t\t\tNAME\nsha512-91e98d7f1679\ta\t\n');
  t.equal(show({ kind: 'table', rows: [] }), '');
  t.equal(show({ kind: 'json', value: { t: 1_700_000_000_123_456_789n, a: [1] }, pretty: false }), '{"t":1700000000123456789,"a":[1]}\n');
  t.equal(show({ kind: 'json', value: { a: 1 }, pretty: true }), '{\n\t"a": 1\n}\n');
});
