import t from 'tap';
import { judge, LOOP_ITERATIONS, parseRecord } from '../../stage1-kvm/accelerator/policy.ts';
import { escapeDetector } from '../../stage1-kvm/relay/escape.ts';
import { consolePrefix, linePrefixer } from '../../stage1-kvm/relay/line-prefix.ts';
import { lastLines, TailBuffer } from '../../stage1-kvm/tail-buffer.ts';
import { formatPhases, phasesOf } from '../../stage1-kvm/timing.ts';
import { random } from './monitor-guest.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (data: Uint8Array): string => new TextDecoder().decode(data);

t.test('lines of several apps', async (t) => {
  const filter = linePrefixer(() => bytes('> '));
  t.equal(text(filter.push(bytes('one\ntwo\nthr'))), '> one\n> two\n');
  t.equal(text(filter.push(bytes('ee\n\n'))), '> three\n> \n');
  t.equal(text(filter.push(bytes('rest'))), '');
  t.equal(text(filter.finish()), '> rest\n', 'the last line is complete too');
  t.equal(filter.finish().length, 0);
  const long = linePrefixer(() => bytes('> '));
  t.equal(long.push(new Uint8Array(70_000).fill(65)).length, 70_003, 'a line without end is cut');
  t.equal(consolePrefix(12_345.678, 'app', 7), '[   12.345678] app[7]: ');

  for (let seed = 0; seed < 100; seed++) {
    const { next } = random(seed);
    const whole = Array.from({ length: next(200) }, () => 'ab\n'[next(3)]!).join('');
    const parts = linePrefixer(() => bytes('>'));
    let got = '';
    for (let at = 0; at < whole.length;) {
      const length = 1 + next(9);
      got += text(parts.push(bytes(whole.slice(at, at + length))));
      at += length;
    }
    got += text(parts.finish());
    const lines = whole.split('\n');
    const expected = lines.map((line, i) => (i === lines.length - 1 ? (line === '' ? '' : `>${line}\n`) : `>${line}\n`)).join('');
    if (got !== expected) t.fail(`seed ${seed}`);
  }
});

t.test('the way out of a terminal', async (t) => {
  let now = 0;
  let escaped = 0;
  const see = escapeDetector(() => now, () => { escaped++; });
  see(bytes('\x1d\x1da\x1d'));
  t.equal(escaped, 0, 'something in between');
  see(bytes('b\x1d'));
  now += 500;
  see(bytes('\x1d'));
  now += 700;
  see(bytes('\x1d'));
  t.equal(escaped, 0, 'too slow');
  now += 100;
  see(bytes('\x1d'));
  see(bytes('\x1d'));
  t.equal(escaped, 1);
});

t.test('the end of the console', async (t) => {
  const tail = new TailBuffer(10);
  tail.push(bytes('12345'));
  tail.push(bytes('6789abc'));
  t.equal(text(tail.bytes), '3456789abc');
  tail.push(bytes('x'.repeat(30)));
  t.equal(text(tail.bytes), 'x'.repeat(10));
  t.same(lastLines('a\r\n\n\x1b[31mred\x1b[0m\n\x9b2J c\n', 2), ['[31mred[0m', '2J c'], 'a guest does not speak to the terminal');
});

t.test('phases', async (t) => {
  const phases = phasesOf({ origin: 100, monitorStart: 150, guestStart: 200, agentHeard: 300, appStarted: 350, appExited: 360, end: 370 });
  t.same(phases, { stage0: 50, vmmStart: 50, kernel: 100, agent: 50, app: 10, teardown: 10, total: 270 });
  t.same(phasesOf({ origin: 0, monitorStart: 5, guestStart: null, agentHeard: 50, appStarted: null, appExited: null, end: 80 }).total, 80);
  const { total, ...rest } = phasesOf({ origin: 0, monitorStart: 5, guestStart: null, agentHeard: null, appStarted: null, appExited: null, end: 80 });
  t.equal(Object.values(rest).reduce((sum, ms) => sum + ms, 0), total, 'phases add up even when the pod failed');
  t.equal(formatPhases(phases).split('\n').length, 8);
});

t.test('judging KVM', async (t) => {
  const good = { failure: null, loopMs: 0.02, controlMs: 0.1, exitsMs: 0.3 };
  t.same(judge(good), { usable: true, reasons: [] });
  t.notOk(judge({ ...good, failure: 'KVM_CREATE_VM: EBUSY' }).usable);
  t.match(judge({ ...good, loopMs: LOOP_ITERATIONS / 900 }).reasons, [/0\.9 million loops a second/]);
  t.match(judge({ ...good, controlMs: 30 }).reasons, [/page table/]);
  t.match(judge({ ...good, exitsMs: 30 }).reasons, [/leaving the guest/]);
  const record = { formatVersion: 1, bootId: 'b', accelerator: 'tcg', reasons: ['x'], probe: good };
  t.same(parseRecord(record, 'b'), record);
  t.equal(parseRecord(record, 'other boot'), null);
  for (const wrong of [null, 5, {}, { ...record, accelerator: 'xen' }, { ...record, formatVersion: 2 }]) t.equal(parseRecord(wrong, 'b'), null);
});
