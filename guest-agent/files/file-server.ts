/** Answers requests for files of apps. */
import { errnoText, SysError } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import type { FilesRequest } from '../../src/wire/files.ts';
import { FilesConnection } from './connection.ts';
import { receiveTree, type Owner } from './receive-tree.ts';
import { sendTree } from './send-tree.ts';

/** Each has a buffer of its own. */
const CONCURRENT_MAX = 8;
let running = 0;

export interface FilesOfApp {
  /** The app's root, opened with O_PATH; belongs to the one who asked. */
  rootFd: number;
  /** The app's user. */
  owner: Owner;
}

/**
 * @param fd a connection whose header has been read; belongs to this function from now on
 * @param open says whether the request may be fulfilled, and measures it; what it throws is told to the host
 */
export async function serveFiles(fd: number, request: FilesRequest, open: (request: FilesRequest) => FilesOfApp): Promise<void> {
  const connection = new FilesConnection(fd);
  running++;
  try {
    if (running > CONCURRENT_MAX) throw new Error(`${CONCURRENT_MAX} copies are being made already`);
    const { rootFd, owner } = open(request);
    try {
      if (request.direction === 'out') await sendTree(connection, rootFd, request);
      else await receiveTree(connection, rootFd, { request, owner });
    } finally {
      close(rootFd);
    }
  } catch (error) {
    // The connection itself may be what has failed.
    await connection.send({ type: 'failed', message: reasonOf(error) }).catch(() => undefined);
  } finally {
    running--;
    connection.finish();
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof SysError) return `${error.call}: ${errnoText(error.errno)}`;
  return error instanceof Error ? error.message : String(error);
}
