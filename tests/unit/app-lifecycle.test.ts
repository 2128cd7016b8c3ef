/** What decides the life of an app, without an app. */
import t from 'tap';
import { Restarts } from '../../guest-agent/app/restarts.ts';
import { parseNotification } from '../../guest-agent/notify/notification.ts';
import { Readiness } from '../../guest-agent/notify/readiness.ts';
import { appSettings, parseRestartPolicy, parseSignal } from '../../src/wire/app-settings.ts';
import type { ExitStatus } from '../../src/wire/messages.ts';

const SUCCESS: ExitStatus = { kind: 'code', code: 0 };
const FAILURE: ExitStatus = { kind: 'code', code: 1 };
const KILLED: ExitStatus = { kind: 'signal', signal: 9, coreDumped: false };

t.test('signals by name and number', async (t) => {
  const known: [string, number][] = [['SIGTERM', 15], ['term', 15], ['15', 15], ['SIGRTMIN', 34], ['SIGRTMIN+3', 37], ['rtmax-1', 63], ['RTMAX', 64], ['SYS', 31], ['HUP', 1]];
  for (const [text, number] of known) t.equal(parseSignal(text), number, text);
  for (const text of ['', 'SIG', '0', '65', '-1', 'SIGFOO', 'RTMIN+31', 'RTMAX-31', 'RTMIN+', 'RTMIN-1', '1e1', ' 15', '9999999999999']) t.throws(() => parseSignal(text), /expected a signal/, text);
});

t.test('restart policies', async (t) => {
  t.same(parseRestartPolicy('no'), { kind: 'no' });
  t.same(parseRestartPolicy('on-failure'), { kind: 'on-failure', maxRestarts: null });
  t.same(parseRestartPolicy('on-failure:3'), { kind: 'on-failure', maxRestarts: 3 });
  for (const text of ['', 'yes', 'always:3', 'on-failure:', 'on-failure:0', 'on-failure:1:2', 'on-failure:x', 'on-failure:1000001']) t.throws(() => parseRestartPolicy(text), /expected no, on-failure/, text);
});

t.test('when an app is started again', async (t) => {
  t.equal(new Restarts({ kind: 'no' }).next(FAILURE, 0), undefined);
  const bounded = new Restarts({ kind: 'on-failure', maxRestarts: 2 });
  t.equal(bounded.next(SUCCESS, 0), undefined, 'success is no failure');
  t.same([bounded.next(FAILURE, 0), bounded.next(KILLED, 0), bounded.next(FAILURE, 0)], [100, 200, undefined]);
  t.equal(bounded.count, 2);
  const always = new Restarts({ kind: 'always' });
  t.same(Array.from({ length: 12 }, () => always.next(SUCCESS, 9_999)), [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
  t.equal(always.next(SUCCESS, 10_000), 100, 'a run that lasted begins anew');
  t.equal(always.count, 13);
});

t.test('annotations', async (t) => {
  t.same(appSettings([]), { stopSignal: null, restart: { kind: 'no' }, notifies: false });
  t.same(
    appSettings([{ name: 'coreos.com/rkt/stage2/stop-signal', value: 'INT' }, { name: 'coreos.com/rkt/stage2/restart', value: 'always' }, { name: 'appc.io/executor/supports-systemd-notify', value: 'true' }]),
    { stopSignal: 2, restart: { kind: 'always' }, notifies: true });
  t.throws(() => appSettings([{ name: 'coreos.com/rkt/stage2/stop-signal', value: 'x' }]), /^annotation coreos.com\/rkt\/stage2\/stop-signal: expected a signal/);
});

t.test('what an app says of itself', async (t) => {
  t.same(parseNotification('READY=1'), { ready: true, status: undefined });
  t.same(parseNotification('STATUS=a\x1b[31m\u009bb\nMAINPID=1\nREADY=1\n'), { ready: true, status: 'a [31m b' });
  t.same(parseNotification('READY=10\nready=1\nX'), { ready: false, status: undefined });
  t.equal(parseNotification(`STATUS=${'x'.repeat(4000)}`).status?.length, 256);
});

t.test('readiness comes once, after the last', async (t) => {
  let times = 0;
  const readiness = new Readiness(() => times++);
  for (const app of ['a', 'b']) readiness.expect(app);
  for (const app of ['a', 'a', 'c']) readiness.reached(app);
  t.equal(times, 0);
  for (const app of ['b', 'b', 'a']) readiness.reached(app);
  t.equal(times, 1);
});
