/** Exercises the runtime natively: prints one JSON object of observations, judged by runtime-native.test.ts. */
import '../../runtime/sys.ts';
import {
  EPOLLIN, LOCK_EX, LOCK_NB, NR_dup3, NR_execve, NR_exit_group, NR_getpid, NR_setsid, NR_write, O_CREAT, O_RDWR, SIGCHLD, SIGUSR1,
} from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { close, eventfd, flock, pipe, readRaw, readvRaw, setNonBlocking, signalEvent, spliceRaw, takeEvent, writeAll, writeRaw, writevRaw } from '../../runtime/linux/fds.ts';
import { makeDirectories, open, readDirectory, readLink, readText, removeDirectory, removeFile, stat, statIfAny, symlink, writeFile } from '../../runtime/linux/files.ts';
import { readJson, writeJson } from '../../runtime/linux/json-file.ts';
import { mapMemory, memfd, unmapMemory } from '../../runtime/linux/memory.ts';
import { Netlink, parseCidr, parseIp } from '../../runtime/linux/netlink.ts';
import { environmentVariable, exit, kill, pidfdKill, pidfdOpen, reap, spawn, waitFor } from '../../runtime/linux/process.ts';
import { randomBytes } from '../../runtime/linux/random.ts';
import { openSignals, takeSignals, unblockSignals } from '../../runtime/linux/signals.ts';
import { accept, connectUnix, listenUnix, peerCredentials, receiveWithFds, sendWithFds, socketPair } from '../../runtime/linux/sockets.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { getWindowSize, isTerminal, openPty } from '../../runtime/linux/tty.ts';
import { after, once, runLoop, sleep, unwatch, watch } from '../../runtime/loop.ts';
import { IGNORE_FAILURE, type Operation, type PreparedOperation } from '../../runtime/sys.ts';

const uncaught: string[] = [];
const observed: Record<string, unknown> = {};
const directory = sys.argv[1] ?? '/tmp/runtime-program';

runLoop((error) => uncaught.push(String(error)));

function errorOf(work: () => unknown): string {
  try {
    work();
    return 'no error';
  } catch (error) {
    return String(error);
  }
}

/** Runs a list of operations in a child; its output and end. */
function run(operations: readonly (Operation | PreparedOperation)[]): { output: string; end: unknown } {
  const { readEnd, writeEnd } = pipe();
  const result = spawn([unblockSignals(), [NR_dup3, writeEnd, 1, 0], ...operations]);
  close(writeEnd);
  const buffer = new Uint8Array(4096);
  let output = '';
  for (let count = readRaw(readEnd, buffer); count > 0; count = readRaw(readEnd, buffer)) output += sys.text(buffer.subarray(0, count));
  close(readEnd);
  return { output, end: result.kind === 'started' ? waitFor(result.pid) : result.failure };
}

function processes(): void {
  observed['shell'] = run([[NR_execve, '/bin/sh', ['sh', '-c', 'echo $GREETING; exit 7'], ['GREETING=grüß']]]);
  observed['noProgram'] = run([[NR_execve, '/no/such', ['x'], []]]);
  observed['ignored'] = run([[NR_execve + IGNORE_FAILURE, '/no/such', ['x'], []], [NR_execve, '/bin/echo', ['echo', 'second'], []]]);
  // What one call returned is an argument of a later one: here the number of bytes written becomes the exit status.
  const text = 'through a result';
  observed['results'] = run([[NR_setsid], [NR_getpid], [NR_write, 1, text, text.length], [NR_exit_group, { result: 4 }]]);
  const told = sys.utf8('prepared');
  const prepared = sys.prepare([NR_write, 1, told, 8]);
  observed['prepared'] = run([prepared, prepared, [NR_exit_group, { result: 3 }]]);
  observed['notPreparable'] = [errorOf(() => sys.prepare([NR_write, 1, 'copied', 6])), errorOf(() => sys.prepare([NR_execve, told, ['x'], []])), errorOf(() => spawn([new Uint8Array(3)]))];
  observed['badResult'] = errorOf(() => spawn([[NR_exit_group, { result: 0 }]]));
  observed['badOperation'] = errorOf(() => spawn([[NR_exit_group, ['a', 1 as unknown as string]]]));
  observed['nul'] = errorOf(() => open('/tmp\0/x', 0));
  const sleeper = spawn([unblockSignals(), [NR_execve, '/bin/sleep', ['sleep', '100'], []]]);
  if (sleeper.kind === 'started') {
    const pidfd = pidfdOpen(sleeper.pid);
    pidfdKill(pidfd, 15);
    observed['killed'] = waitFor(sleeper.pid);
    observed['gone'] = kill(sleeper.pid, 0);
    close(pidfd);
  }
  observed['environment'] = environmentVariable('RUNTIME_TEST');
}

function files(): void {
  makeDirectories(`${directory}/a/b`);
  writeFile(`${directory}/a/b/file`, 'content', { mode: 0o600 });
  symlink('b/file', `${directory}/a/link`);
  observed['file'] = { text: readText(`${directory}/a/link`), mode: stat(`${directory}/a/b/file`).mode & 0o7777, link: readLink(`${directory}/a/link`) };
  observed['names'] = readDirectory(`${directory}/a`).map(({ name }) => name).sort();
  observed['missing'] = errorOf(() => readText(`${directory}/none`));
  observed['tooLarge'] = errorOf(() => readText(`${directory}/a/b/file`, { maxBytes: 3 }));
  observed['notThere'] = statIfAny(`${directory}/none`) === undefined;
  writeJson(`${directory}/x.json`, { a: [1, 'ü'] });
  observed['json'] = readJson(`${directory}/x.json`);
  writeFile(`${directory}/bad.json`, '{');
  observed['badJson'] = errorOf(() => readJson(`${directory}/bad.json`)).startsWith(`SyntaxError: ${directory}/bad.json: `);
  const lock = open(`${directory}/lock`, O_CREAT | O_RDWR, 0o600);
  const other = open(`${directory}/lock`, O_RDWR);
  observed['locks'] = [flock(lock, LOCK_EX | LOCK_NB), flock(other, LOCK_EX | LOCK_NB)];
  for (const fd of [lock, other]) close(fd);
  for (const name of ['a/link', 'a/b/file', 'x.json', 'bad.json', 'lock']) removeFile(`${directory}/${name}`);
  for (const name of ['a/b', 'a']) removeDirectory(`${directory}/${name}`);
}

/** One chain over all lengths up to a few blocks: each digest is of the one before and a message. */
function hashes(): void {
  for (const bits of [256, 384] as const) {
    let chain = new Uint8Array(0);
    for (let length = 0; length < 300; length++) {
      const message = new Uint8Array(chain.length + length).fill(length);
      message.set(chain);
      chain = sys.hash(bits, message);
    }
    observed[`sha${bits}`] = [...chain];
  }
  const bytes = new Uint8Array(256).map((_, index) => index);
  const back = new Uint8Array(256);
  observed['hex'] = [sys.hex(bytes), sys.unhex(sys.hex(bytes).toUpperCase(), back) && back.every((byte, index) => byte === index), sys.unhex('0', back), sys.unhex('0g', new Uint8Array(1)), sys.hex(new Uint8Array(0))];
  const into = new Uint8Array(40);
  const counts = new Int32Array(2);
  const rounds: unknown[] = [];
  const [text, full, partial] = ['one\n\nthree\nrest', 'F ', 'P '].map((part) => sys.utf8(part).subarray(0, -1)) as [Uint8Array, Uint8Array, Uint8Array];
  sys.lines(text, full, partial, into, counts);
  rounds.push(sys.text(into.subarray(0, counts[1])), counts[0]);
  sys.lines(text, full, partial, into.subarray(0, 12), counts);
  rounds.push(sys.text(into.subarray(0, counts[1])), counts[0]);
  sys.lines(text, full, partial, into.subarray(0, 5), counts);
  rounds.push(counts[0], counts[1]);
  observed['lines'] = [...rounds, errorOf(() => sys.lines(text, full, partial, into, new Int32Array(3)))];
  observed['badHash'] = errorOf(() => sys.hash(512 as 256, new Uint8Array(0)));
}

function descriptors(): void {
  const [left, right] = socketPair();
  const shared = memfd('shared', 8192);
  const sent = sendWithFds(left, new Uint8Array([1, 2, 3]), [shared, shared, left]);
  const buffer = new Uint8Array(16);
  const { count, fds } = receiveWithFds(right, buffer, { maxFds: 8 });
  observed['passed'] = { sent, count, fds: fds.length, distinct: new Set(fds).size, bytes: [...buffer.subarray(0, count)] };
  const mine = mapMemory({ fd: shared, lengthBytes: 8192 });
  const theirs = mapMemory({ fd: fds[0] ?? -1, lengthBytes: 8192 });
  new BigUint64Array(mine.buffer)[3] = 0x0102030405060708n;
  Atomics.store(new Uint16Array(mine.buffer), 1, 513);
  observed['memory'] = { bytes: [...new Uint8Array(theirs.buffer).subarray(24, 32)], word: Atomics.load(new Uint16Array(theirs.buffer), 1) };
  const inMapping = new Uint8Array(mine.buffer).subarray(100, 105);
  const pipeEnds = pipe();
  writevRaw(pipeEnds.writeEnd, [new Uint8Array([1, 2]), new Uint8Array([3, 4, 5])]);
  readvRaw(pipeEnds.readEnd, [inMapping.subarray(0, 3), inMapping.subarray(3)]);
  observed['vectors'] = [...new Uint8Array(theirs.buffer).subarray(100, 105)];
  writeAll(pipeEnds.writeEnd, new Uint8Array([9, 8, 7]));
  const moved = spliceRaw(pipeEnds.readEnd, left, { lengthBytes: 100, flags: 0 });
  readRaw(right, buffer);
  observed['spliced'] = { moved, bytes: [...buffer.subarray(0, 3)] };
  const view = new Uint8Array(mine.buffer);
  unmapMemory(mine);
  observed['unmapped'] = view.length;
  const event = eventfd();
  signalEvent(event);
  signalEvent(event);
  observed['event'] = [takeEvent(event), takeEvent(event)];
  observed['tooManyFds'] = errorOf(() => {
    sendWithFds(left, new Uint8Array(1), [shared, shared, shared, shared]);
    receiveWithFds(right, buffer, { maxFds: 1 });
  });
}

async function socketsAndTerminals(): Promise<void> {
  const listener = listenUnix(`${directory}/socket`);
  const client = connectUnix(`${directory}/socket`);
  await once(listener, EPOLLIN);
  const server = accept(listener) ?? -1;
  writeRaw(client, new Uint8Array([42]));
  await once(server, EPOLLIN);
  const buffer = new Uint8Array(4);
  observed['unix'] = { count: readRaw(server, buffer), byte: buffer[0], uid: peerCredentials(server).uid, none: accept(listener) === undefined };
  observed['refused'] = errorOf(() => connectUnix(`${directory}/nobody`));
  removeFile(`${directory}/socket`);
  const pty = openPty({ rows: 5, cols: 7 });
  observed['terminal'] = { is: isTerminal(pty.slaveFd), isNot: isTerminal(server), size: getWindowSize(pty.slaveFd) };
  const netlink = new Netlink();
  observed['loopback'] = netlink.links().some(({ name, index }) => name === 'lo' && index === 1);
  netlink.close();
  observed['addresses'] = [parseIp('10.0.2.15'), parseIp('fd00::2'), parseIp('::ffff:1.2.3.4'), parseIp('::')].map((address) => [...address].join('.'));
  observed['prefix'] = [parseCidr('10.0.0.0/8').prefixBits, parseCidr('::/0').prefixBits, parseCidr('1.2.3.4').prefixBits];
  observed['badAddresses'] = ['1.2.3', '1.2.3.256', '1::2::3', ':::', '12345::', '1:2:3:4:5:6:7:8:9', 'x', '1.2.3.4/33', '1.2.3.4/'].map((text) => errorOf(() => parseCidr(text)).startsWith('SysError'));
}

async function loop(): Promise<void> {
  const order: string[] = [];
  after(30, () => order.push('30'));
  after(10, () => order.push('10'));
  after(20, () => order.push('never')).cancel();
  await sleep(50);
  observed['timers'] = order;
  const started = monotonicMs();
  await sleep(20);
  observed['slept'] = monotonicMs() - started >= 20;
  const signals = openSignals([SIGUSR1, SIGCHLD]);
  kill(sys.call(NR_getpid), SIGUSR1);
  await once(signals, EPOLLIN);
  observed['signals'] = takeSignals(signals).map(({ signal }) => signal === SIGUSR1);
  const { readEnd, writeEnd } = pipe();
  setNonBlocking(readEnd);
  let calls = 0;
  watch(readEnd, EPOLLIN, () => {
    calls++;
    readRaw(readEnd, new Uint8Array(8));
    throw new Error('from a watcher');
  });
  writeRaw(writeEnd, new Uint8Array(1));
  await sleep(5);
  writeRaw(writeEnd, new Uint8Array(1));
  await sleep(5);
  unwatch(readEnd);
  observed['watcherCalls'] = calls;
  const caught = Promise.reject(new Error('handled later'));
  await sleep(0).catch(() => undefined);
  caught.catch(() => undefined);
  void Promise.reject(new Error('never handled'));
  await sleep(1);
  observed['errors'] = { code: isErrno(new SysError('x', 2), 2), text: String(new SysError('call path', 13)), unknown: String(new SysError('x', 9999)) };
  observed['random'] = randomBytes(8).some((byte, index) => byte !== randomBytes(8)[index]);
  observed['reaped'] = reap() === undefined;
}

async function main(): Promise<void> {
  processes();
  files();
  hashes();
  descriptors();
  await socketsAndTerminals();
  await loop();
  observed['uncaught'] = uncaught;
  const text = sys.utf8(JSON.stringify(observed));
  writeAll(1, text.subarray(0, -1));
  exit(0);
}

main().catch((error: unknown) => {
  const text = sys.utf8(`${String(error)}\n${error instanceof Error ? error.stack : ''}\n`);
  writeAll(2, text.subarray(0, -1));
  exit(1);
});
