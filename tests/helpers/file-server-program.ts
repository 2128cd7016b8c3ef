/** The guest's side of copying as an ordinary process: a directory stands for the app's root. Arguments: path of the socket, the root. */
import '../../runtime/sys.ts';
import { EPOLLIN, O_DIRECTORY, O_PATH } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { open } from '../../runtime/linux/files.ts';
import { accept, listenUnix } from '../../runtime/linux/sockets.ts';
import { runLoop, watch } from '../../runtime/loop.ts';
import { serveFiles } from '../../guest-agent/files/file-server.ts';
import { StreamExchange } from '../../guest-agent/process/stream-exchange.ts';

const [, socketPath = '', root = ''] = sys.argv;

runLoop((error) => {
  throw error;
});
const exchange = new StreamExchange({
  attach: () => 'refused',
  serveFiles: (request, fd) => void serveFiles(fd, request, () => ({ rootFd: open(root, O_PATH | O_DIRECTORY), owner: { uid: 1234, gid: 5678 } })),
  forward: (_port, fd) => close(fd),
});
const listener = listenUnix(socketPath);
watch(listener, EPOLLIN, () => {
  for (let fd = accept(listener); fd !== undefined; fd = accept(listener)) exchange.accept(fd);
});
