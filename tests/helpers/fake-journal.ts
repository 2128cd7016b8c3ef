/** A program of the runtime that stands in for the journal: binds a datagram socket and prints each entry it gets, as a line of JSON. */
import '../../runtime/sys.ts';
import { AF_UNIX, EPOLLIN, NR_bind, SOCK_DGRAM } from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { fstat, readAt } from '../../runtime/linux/files.ts';
import { receiveWithFds, socket, unixAddress } from '../../runtime/linux/sockets.ts';
import { runLoop, watch } from '../../runtime/loop.ts';

const LARGEST_DATAGRAM = 256 << 10;

runLoop((error) => print({ error: String(error) }));
const fd = socket(AF_UNIX, SOCK_DGRAM);
const address = unixAddress(sys.argv[1]!);
check(sys.call(NR_bind, fd, address, address.length), 'bind');
print({ ready: true });
const buffer = new Uint8Array(LARGEST_DATAGRAM);
watch(fd, EPOLLIN, () => {
  const { count, fds: [attached] } = receiveWithFds(fd, buffer, { maxFds: 1 });
  if (attached === undefined) {
    entry(buffer.subarray(0, count), false);
    return;
  }
  const content = new Uint8Array(fstat(attached).sizeBytes);
  readAt(attached, content, 0);
  close(attached);
  entry(content, true);
});

function entry(bytes: Uint8Array, isFile: boolean): void {
  const fields = sys.text(bytes).split('\n').filter((line) => line !== '').map((line): [string, string] => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]);
  print({ isFile, fields: Object.fromEntries(fields) });
}

function print(value: object): void {
  writeAll(1, sys.utf8(`${JSON.stringify(value)}\n`).subarray(0, -1));
}
