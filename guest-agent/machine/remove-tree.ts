/**
 * Removes a directory that an app has filled. Names in it are whatever the app liked, and it may be deeper than any path can be
 * long: so it is moved into a directory of its own first, and whatever directory is found in it is moved there, too, and waits
 * for its turn.
 */
import { AT_REMOVEDIR, DT_DIR, NR_renameat2, NR_unlinkat, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { exists, makeDirectory, open, readDirectory, removeDirectory, rename } from '../../runtime/linux/files.ts';
import { sleep } from '../../runtime/loop.ts';

/** The agent has other things to do, too. */
const ENTRIES_AT_ONCE = 512;

/** One that does not exist is fine. @throws SysError for what cannot be removed (an immutable file); it can be tried again */
export async function removeTree(directory: string): Promise<void> {
  const holder = `${directory}.removed`;
  makeDirectory(holder, 0o700);
  const waiting = readDirectory(holder).map(({ name }) => name);
  let nextName = waiting.reduce((next, name) => Math.max(next, Number(name) + 1), 0);
  if (exists(directory, { followLinks: false })) {
    waiting.push(String(nextName));
    rename(directory, `${holder}/${nextName++}`);
  }
  const holderFd = open(holder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  let handledCount = 0;
  try {
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      const fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, holderFd);
      try {
        for (const entry of readDirectory(`/proc/self/fd/${fd}/.`)) {
          if (entry.type === DT_DIR) {
            waiting.push(String(nextName));
            check(sys.call(NR_renameat2, fd, entry.name, holderFd, String(nextName++), 0), 'rename', entry.name);
          } else {
            check(sys.call(NR_unlinkat, fd, entry.name, 0), 'unlink', entry.name);
          }
          if (++handledCount % ENTRIES_AT_ONCE === 0) await sleep(0);
        }
      } finally {
        close(fd);
      }
      check(sys.call(NR_unlinkat, holderFd, name, AT_REMOVEDIR), 'rmdir', name);
    }
  } finally {
    close(holderFd);
  }
  removeDirectory(holder);
}
