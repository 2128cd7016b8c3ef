import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { moment } from '../../src/cli/flags/values.ts';
import { AppLog } from '../../src/pod/logs/app-log.ts';
import type { LogLine } from '../../src/pod/logs/app-log.ts';
import { MergedLog } from '../../src/pod/logs/merged-log.ts';
import { parseRecord } from '../../src/pod/logs/record.ts';
import { kubernetesLogPath } from '../../src/wire/kubernetes-log.ts';
import { streamModes } from '../../src/wire/stream-modes.ts';
import { detachFilter, parseDetachKeys } from '../../stage1-kvm/attach/detach-keys.ts';
import { lineSplitter } from '../../stage1-kvm/logs/line-splitter.ts';
import { rfc3339 } from '../../stage1-kvm/logs/timestamp.ts';
import { parseAttachArguments, parseRunArguments } from '../../stage1-kvm/options.ts';
import { random } from './monitor-guest.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (data: Uint8Array): string => new TextDecoder().decode(data);

t.test('times', async (t) => {
  t.equal(rfc3339(0n), '1970-01-01T00:00:00.000000000Z');
  t.equal(rfc3339(1_795_334_400_123_456_789n), '2026-11-22T08:00:00.123456789Z');
  for (let seed = 0; seed < 300; seed++) {
    const ms = random(seed).next(4_000_000) * 1_000_003;
    const expected = new Date(ms).toISOString();
    if (rfc3339(BigInt(ms) * 1_000_000n) !== `${expected.slice(0, -1)}000000Z`) t.fail(expected);
  }
  t.equal(moment('2026-11-22T09:00:00.5+01:00'), '2026-11-22T08:00:00.500000000Z');
  t.equal(moment('2026-11-22T08:00:00.123456789Z'), '2026-11-22T08:00:00.123456789Z');
  t.equal(moment('1795334400.25'), '2026-11-22T08:00:00.250000000Z');
  t.ok(Math.abs(Date.parse(moment('1h30m')) - (Date.now() - 5_400_000)) < 5000);
  for (const wrong of ['', 'yesterday', '2026-13-45T00:00:00Z', '2026-11-22', '1x']) t.throws(() => moment(wrong), /expected a time/, wrong);
});

t.test('lines for the journal', async (t) => {
  const lines: string[] = [];
  const splitter = lineSplitter(5, (line) => lines.push(text(line)));
  for (const part of ['on', 'e\ntwo\n', '\nlong enough\nre', 'st']) splitter.push(bytes(part));
  splitter.end();
  splitter.end();
  t.same(lines, ['one', 'two', '', 'long ', 'enoug', 'h', 'rest']);
});

t.test('keys that detach', async (t) => {
  const keys = parseDetachKeys('ctrl-p,ctrl-q');
  t.same(keys, [16, 17]);
  t.same(parseDetachKeys('ctrl-],a,ctrl-@'), [29, 97, 0]);
  t.same(parseDetachKeys(''), []);
  for (const wrong of ['ctrl-', 'ctrl-pp', 'ctrl-ä', 'ab', ',', ' ']) t.throws(() => parseDetachKeys(wrong), /--detach-keys/, wrong);
  const push = (filter: ReturnType<typeof detachFilter>, ...parts: string[]): (string | null)[] => parts.map((part) => filter.push(bytes(part))).map((passed) => (passed === null ? null : text(passed)));
  t.same(push(detachFilter(keys), 'a\x10', 'b\x10\x10', '\x11'), ['a', '\x10b\x10', null], 'a beginning is held back until it is none');
  t.same(push(detachFilter(parseDetachKeys('a,a,b')), 'aa', 'aab'), ['', null], 'a sequence that begins within itself');
  t.same(push(detachFilter([]), '\x10\x11'), ['\x10\x11']);
  t.same(push(detachFilter([24]), 'x', '\x18'), ['x', null]);
});

t.test('where streams go', async (t) => {
  const modes = (given: Record<string, string>): ReturnType<typeof streamModes> => streamModes(Object.entries(given).map(([name, value]) => ({ name: `coreos.com/rkt/stage2/${name}`, value })));
  t.same(modes({}), { stdin: 'null', stdout: 'log', stderr: 'log' });
  t.same(modes({ stdin: 'stream', stderr: 'null' }), { stdin: 'stream', stdout: 'log', stderr: 'null' });
  t.same(modes({ stdin: 'tty' }), { stdin: 'tty', stdout: 'tty', stderr: 'tty' });
  t.same(modes({ stdin: 'null', stdout: 'tty' }), { stdin: 'null', stdout: 'tty', stderr: 'tty' });
  for (const wrong of [{ stdin: 'log' } as Record<string, string>, { stdin: 'interactive' }, { stdout: 'x' }, { stdin: 'tty', stdout: 'stream' }, { stderr: 'log', stdout: 'tty' }]) t.throws(() => modes(wrong), { name: 'StreamModeError' }, JSON.stringify(wrong));
  for (const odd of [undefined, null, {}, [null], [{}], [{ name: 5, value: 'x' }]]) t.same(streamModes(odd), { stdin: 'null', stdout: 'log', stderr: 'log' });

  const pod = [{ name: 'coreos.com/rkt/experiment/logmode', value: 'k8s-plain' }, { name: 'coreos.com/rkt/experiment/kubernetes-log-dir', value: '/var/log/pods/x' }];
  const app = (path: string): unknown => [{ name: 'coreos.com/rkt/experiment/kubernetes-log-path', value: path }];
  t.equal(kubernetesLogPath(app('a/0.log'), pod), '/var/log/pods/x/a/0.log');
  t.equal(kubernetesLogPath(app('a/0.log'), undefined), null, 'an image alone cannot say where');
  t.equal(kubernetesLogPath([], pod), null);
  for (const wrong of ['../x', 'a/../../x', '', 'a\0']) t.throws(() => kubernetesLogPath(app(wrong), pod), { name: 'StreamModeError' });
  t.throws(() => kubernetesLogPath(app('x'), [pod[0]]), /absolute path/);
  t.throws(() => kubernetesLogPath(app('x'), [{ ...pod[0], value: 'json' }]), /expected k8s-plain/);
});

t.test('arguments of stage1', async (t) => {
  const uuid = '6733c9f0-8a6a-4b7a-a6ef-4be5e1a0a1a3';
  t.match(parseRunArguments(['--log-driver=journald', '--log-size-max=300000', '--log-files-max=2', '--log-journal=/x', uuid]).logs, { driver: 'journald', maxBytes: 300_000, maxFiles: 2, journalPath: '/x' });
  t.match(parseRunArguments([uuid]).logs, { driver: 'auto', maxBytes: 10 << 20, maxFiles: 5, journalPath: null });
  t.throws(() => parseRunArguments(['--log-driver=syslog', uuid]), /k8s-file, journald, none/);
  t.match(parseAttachArguments(['--action=custom-attach', '--tty-in=true', '--tty-out=true', '--stdin=false', '--app=a', '--debug=false']), { action: 'custom-attach', app: 'a', endpoints: ['tty-in', 'tty-out'] });
  for (const [args, message] of [
    [['--action=list'], /--app/], [['--action=custom-attach', '--app=a'], /at least one/], [['--action=custom-attach', '--app=a', '--stdin=true', '--tty-in=true'], /TTY and streams/], [['--app=a', 'x'], /operand/], [['--app=a', '--x'], /unknown flag/],
  ] as const) t.throws(() => parseAttachArguments(args), message);
});

t.test('records', async (t) => {
  const parse = (line: string): unknown => {
    const record = parseRecord(Buffer.from(line));
    return record === undefined ? undefined : { ...record, text: record.text.toString() };
  };
  t.same(parse('2026-11-22T08:00:00.1Z stdout F a line'), { time: '2026-11-22T08:00:00.1Z', stream: 'stdout', isPartial: false, text: 'a line' });
  t.same(parse('T stderr P  x'), { time: 'T', stream: 'stderr', isPartial: true, text: ' x' });
  t.same(parse('T stderr P:extra:F '), { time: 'T', stream: 'stderr', isPartial: true, text: '' }, 'tags of later versions');
  for (const wrong of ['', 'x', 'T stdout', 'T stdout F', 'T stdlog F x']) t.equal(parse(wrong), undefined, wrong);
});

t.test('reading goes on across rotations', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rkt-logs-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'app.log');
  let second = 0;
  const record = (line: string, { stream = 'stdout', tag = 'F' } = {}): string => `2026-11-22T08:00:${String(second++ % 60).padStart(2, '0')}.000000000Z ${stream} ${tag} ${line}\n`;
  const rotate = (): void => {
    for (const [from, to] of [['.1', '.2'], ['', '.1']]) {
      try {
        renameSync(path + from, path + to);
      } catch {
        // There is none yet.
      }
    }
  };
  const taken = (log: AppLog | MergedLog): string[] => {
    const lines: string[] = [];
    for (let line: LogLine | undefined = log.next(); line !== undefined; line = log.next()) lines.push(line.text.toString() + (line.isComplete ? '' : '…'));
    return lines;
  };
  const log = new AppLog(path, { immediate: false });
  t.same(taken(log), [], 'nothing is there yet');
  writeFileSync(`${path}.1`, record('old'));
  writeFileSync(path, record('one'));
  t.same(taken(log), ['old', 'one']);
  appendFileSync(path, record('two'));
  rotate();
  t.same(taken(log), ['two'], 'renamed, and no new one yet');
  writeFileSync(path, record('three') + record('half', { tag: 'P' }) + record('oops', { stream: 'stderr' }));
  t.same(taken(log), ['three', 'oops']);
  appendFileSync(path, record(' whole').slice(0, 20));
  t.same(taken(log), [], 'a record of which only a part was written');
  second--;
  appendFileSync(path, record(' whole').slice(20) + record('four'));
  rotate();
  writeFileSync(path, record('five'));
  rotate();
  writeFileSync(path, record('six') + record('open', { tag: 'P' }));
  t.same(taken(log), ['half whole', 'four', 'five', 'six'], 'two rotations in between');
  t.same([...log.remainder()].map((line) => line.text.toString()), ['open']);
  for (let round = 0; round < 3; round++) {
    rotate();
    writeFileSync(path, record(`round ${round}`));
  }
  t.same(taken(log), ['round 0', 'round 1', 'round 2'], 'what is gone is gone; what is there is read');
  log.close();

  const at = (time: string, line: string): string => `2026-11-22T${time}.000000000Z stdout F ${line}\n`;
  const other = join(directory, 'other.log');
  const first = join(directory, 'first.log');
  writeFileSync(first, at('08:00:01', 'a1') + at('08:00:03', 'a3') + at('08:00:05', 'a5'));
  writeFileSync(other, at('08:00:02', 'b2') + at('08:00:04', 'b4'));
  const merged = (): MergedLog => new MergedLog(new Map([['a', new AppLog(first, { immediate: false })], ['b', new AppLog(other, { immediate: false })]]));
  t.same(taken(merged()), ['a1', 'b2', 'a3', 'b4', 'a5']);
  const tail = merged();
  tail.skipToTail(1, ({ text: line }) => line.toString() !== 'a5');
  t.same(taken(tail), ['a3', 'b4'], 'of each app');
  const none = merged();
  none.skipToTail(0, () => true);
  t.same(taken(none), []);

  writeFileSync(join(directory, 'prompt.log'), 'T stdout P login: \n');
  t.same(taken(new AppLog(join(directory, 'prompt.log'), { immediate: true })), ['login: …'], 'as far as it was written');
});
