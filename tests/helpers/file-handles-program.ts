/** In a guest: opens by file handle whatever the numbers in it could be made to mean, DIRECTORY being on the file system in question. */
import '../../runtime/sys.ts';
import { AT_FDCWD, NR_name_to_handle_at, NR_open_by_handle_at, O_PATH, O_RDONLY } from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { fstat, isDirectory, lstat, open, readDirectory, stat } from '../../runtime/linux/files.ts';
import { exit } from '../../runtime/linux/process.ts';

/** linux/fcntl.h: struct file_handle. FUSE: 64 bits of node, 32 of generation. */
const HEADER_BYTES = 8;
const HANDLE_BYTES = 128;
const TRIED_NODES = 400n;

const directory = sys.argv[1] ?? '/';
const handle = new Uint8Array(HEADER_BYTES + HANDLE_BYTES);
const view = new DataView(handle.buffer);
view.setUint32(0, HANDLE_BYTES, true);
check(sys.call(NR_name_to_handle_at, AT_FDCWD, directory, handle, new Int32Array(1), 0), 'name_to_handle_at', directory);
const mountFd = open(directory, O_RDONLY);
const shared = new Set<bigint>([stat(directory).inode]);
collect(directory);

let foreign = 0;
let opened = 0;
for (let node = 0n; node < TRIED_NODES; node++) {
  view.setUint32(HEADER_BYTES, Number(node >> 32n), true);
  view.setUint32(HEADER_BYTES + 4, Number(node & 0xffffffffn), true);
  const fd = sys.call(NR_open_by_handle_at, mountFd, handle, O_PATH);
  if (fd < 0) continue;
  opened++;
  if (!shared.has(fstat(fd).inode)) foreign++;
  close(fd);
}
const verdict = foreign === 0 && opened > 0 ? 'only what is shared' : `${opened} opened, ${foreign} of something else`;
writeAll(1, sys.utf8(`handles: ${verdict}\n`).subarray(0, -1));
exit(0);

function collect(path: string): void {
  for (const { name } of readDirectory(path)) {
    const status = lstat(`${path}/${name}`);
    shared.add(status.inode);
    if (isDirectory(status)) collect(`${path}/${name}`);
  }
}
