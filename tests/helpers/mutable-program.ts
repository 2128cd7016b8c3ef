/** Disks plugged into a QEMU that this program plays itself, and the removal of what apps leave: prints one JSON object that mutable.test.ts judges. */
import '../../runtime/sys.ts';
import { EPOLLIN, SIGPIPE } from '../../runtime/abi.gen.ts';
import { close, writeAll, writeRaw } from '../../runtime/linux/fds.ts';
import { changeDirectory, makeDirectory, readDirectory, statIfAny, symlink, writeFile } from '../../runtime/linux/files.ts';
import { exit } from '../../runtime/linux/process.ts';
import { blockSignals } from '../../runtime/linux/signals.ts';
import { receiveWithFds, socketPair } from '../../runtime/linux/sockets.ts';
import { runLoop, unwatch, watch } from '../../runtime/loop.ts';
import { removeTree } from '../../guest-agent/machine/remove-tree.ts';
import { HotDisks } from '../../stage1-kvm/mutable/hot-disks.ts';
import type { AppDisk } from '../../stage1-kvm/pod/pod.ts';
import { QmpChannel } from '../../stage1-kvm/vmm/qmp.ts';

interface Command {
  execute: string;
  arguments: Record<string, unknown>;
  id: number;
}

const directory = sys.argv[1] ?? '/nowhere';
const line = (value: unknown): string => `${JSON.stringify(value)}\r\n`;

/** A QEMU that answers as it is told; undefined: well. */
function playQemu(answer: (command: Command) => string | undefined): { qmp: QmpChannel; heard: string[]; fdCount: () => number } {
  const [ours, theirs] = socketPair();
  const heard: string[] = [];
  const buffer = new Uint8Array(65536);
  let text = '';
  let fdCount = 0;
  writeAll(theirs, sys.utf8(line({ QMP: { version: {} } })).subarray(0, -1));
  watch(theirs, EPOLLIN, () => {
    const { count, fds } = receiveWithFds(theirs, buffer, { maxFds: 4 });
    fdCount += fds.length;
    fds.forEach(close);
    if (count <= 0) return unwatch(theirs);
    text += sys.text(buffer.subarray(0, count));
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const command = JSON.parse(text.slice(0, end)) as Command;
      text = text.slice(end + 1);
      heard.push(command.execute);
      const event = command.execute === 'device_del' ? line({ event: 'DEVICE_DELETED', data: { device: command.arguments['id'] } }) : '';
      const bytes = sys.utf8(answer(command) ?? `${event}${line({ return: {}, id: command.id })}`).subarray(0, -1);
      // Whoever has closed the connection has heard enough.
      writeRaw(theirs, bytes);
    }
  });
  return { qmp: new QmpChannel(ours), heard, fdCount: () => fdCount };
}

const errorOf = (work: Promise<unknown>): Promise<string> => work.then(() => 'no error', (error: unknown) => String((error as Error).message));

const disk = (number: number): AppDisk => ({ path: '/dev/null', sizeBytes: 0, dataBlocks: 0, hashStartBlock: 0, rootHashHex: String(number) });

async function observe(): Promise<Record<string, unknown>> {
  const observed: Record<string, unknown> = {};
  const good = playQemu(() => undefined);
  const disks = new HotDisks(good.qmp);
  const [first, same, other] = await Promise.all([disks.take(disk(1)), disks.take(disk(1)), disks.take(disk(2))]);
  observed['serials'] = [first, same, other];
  await disks.giveBack(first);
  observed['kept'] = good.heard.filter((name) => name === 'device_del').length;
  await disks.giveBack(first);
  await disks.giveBack(other);
  observed['heard'] = [...good.heard];
  observed['descriptors'] = good.fdCount();
  const many: string[] = [];
  for (let number = 0; number < 62; number++) many.push(await disks.take(disk(100 + number)));
  observed['full'] = await errorOf(disks.take(disk(500)));
  await disks.giveBack(many[7] ?? '');
  observed['roomAgain'] = await errorOf(disks.take(disk(500)));

  let isRefusing = true;
  const refusing = playQemu(({ execute, id }) => (execute === 'device_add' && isRefusing ? line({ id, error: { class: 'GenericError', desc: 'no such bus' } }) : undefined));
  const refused = new HotDisks(refusing.qmp);
  observed['refused'] = await errorOf(refused.take(disk(1)));
  observed['takenBack'] = refusing.heard.at(-1);
  isRefusing = false;
  observed['secondTime'] = await errorOf(refused.take(disk(1)));

  const strange = playQemu(({ execute, id }) => (execute === 'one' ? `${line({ event: 'DEVICE_DELETED', data: 7 })}${line({ event: 'X'.repeat(1000) })}${line({ return: {}, id: 'x' })}${line({ return: {}, id: 9999 })}${line({ return: {}, id })}` : undefined));
  observed['strangeEvents'] = await errorOf(strange.qmp.execute('one'));
  for (const [name, answer] of [['noJson', 'hello\n'], ['noObject', '[1]\n'], ['endless', 'x'.repeat(100_000)]] as const) {
    observed[name] = await errorOf(playQemu(({ execute }) => (execute === 'one' ? answer : undefined)).qmp.execute('one'));
  }
  const closed = playQemu(() => undefined).qmp;
  closed.close();
  observed['closed'] = await errorOf(closed.execute('one'));

  observed['tree'] = await removeDeepTree(`${directory}/tree`);
  return observed;
}

async function removeDeepTree(top: string): Promise<unknown> {
  makeDirectory(top);
  writeFile(`${top}/outside`, 'stays');
  makeDirectory(`${top}/app`);
  changeDirectory(`${top}/app`);
  for (let depth = 0; depth < 60; depth++) {
    for (const name of ['0', '1', 'x'.repeat(200)]) makeDirectory(name);
    symlink('../outside', 'link');
    writeFile('file\n', '');
    changeDirectory('x'.repeat(200));
  }
  changeDirectory('/');
  await removeTree(`${top}/app`);
  await removeTree(`${top}/app`);
  return { left: readDirectory(top).map(({ name }) => name), app: statIfAny(`${top}/app`) ?? null };
}

blockSignals([SIGPIPE]);
runLoop((error) => {
  writeAll(2, sys.utf8(`${String(error)}\n`).subarray(0, -1));
  exit(1);
});
observe().then((observed) => {
  writeAll(1, sys.utf8(JSON.stringify(observed)).subarray(0, -1));
  exit(0);
}, (error: unknown) => {
  writeAll(2, sys.utf8(`${String(error)}\n${(error as Error).stack ?? ''}`).subarray(0, -1));
  exit(1);
});
