/**
 * `export --inspect=APP UUID`: the files of an app of a pod that has ended, as a tree on standard output (src/wire/files.ts).
 * They are files of this host; the agent's own code reads them. Nothing of the pod changes.
 */
import { MS_RDONLY, MS_SLAVE, O_DIRECTORY, O_PATH, SIGKILL, SIGPIPE, SOCK_NONBLOCK, SOCK_STREAM } from '../runtime/abi.gen.ts';
import { SysError } from '../runtime/linux/errors.ts';
import { exists, open, readText } from '../runtime/linux/files.ts';
import { mount, setPropagation, unshareMounts } from '../runtime/linux/mount.ts';
import { exit, setParentDeathSignal } from '../runtime/linux/process.ts';
import { blockSignals } from '../runtime/linux/signals.ts';
import { socketPair } from '../runtime/linux/sockets.ts';
import { runLoop } from '../runtime/loop.ts';
import { serveFiles } from '../guest-agent/files/file-server.ts';
import { Stage1Error, STAGE1_FAILURE } from '../stage1-kvm/error.ts';
import { parseRunArguments } from '../stage1-kvm/options.ts';
import { readPod } from '../stage1-kvm/pod/directory.ts';
import { HostStream } from '../stage1-kvm/relay/host-stream.ts';
import { pumpOut } from '../stage1-kvm/relay/pump.ts';
import { printError } from '../stage1-kvm/report.ts';
import { rootDirectoryOf } from './machine.ts';

/** Nothing is written. */
const NOBODY = { uid: 65534, gid: 65534 };
/** Where it is looked at, in mounts of this process. */
const VIEW = 'stage1/rootfs';

export function exportApp(args: readonly string[]): void {
  const app = parseRunArguments(args).inspectedApp;
  if (app === null) throw new Stage1Error('--inspect is missing');
  setParentDeathSignal(SIGKILL);
  blockSignals([SIGPIPE]);
  const fail = (error: unknown): never => {
    printError(error);
    exit(STAGE1_FAILURE);
  };
  runLoop(fail);
  if (!readPod().apps.some(({ app: { name } }) => name === app)) throw new Stage1Error(`no app "${app}" in this pod`);
  const rootFd = openRoot(app);
  const [source, ourEnd] = socketPair(SOCK_STREAM, SOCK_NONBLOCK);
  // What goes wrong is told in the stream.
  void serveFiles(source, { direction: 'out', app, path: '/', followLink: false, xattrs: true }, () => ({ rootFd, owner: NOBODY }));
  pumpOut(ourEnd, new HostStream(1, 'out')).then(() => exit(0)).catch(fail);
}

/** The app's changes over its image, or the copy that it has changed. */
function openRoot(app: string): number {
  if (!exists('overlay-prepared')) return open(rootDirectoryOf(app), O_PATH | O_DIRECTORY);
  const tree = readText(`appsinfo/${app}/treeStoreID`).trim();
  unshareMounts();
  setPropagation('/', MS_SLAVE);
  try {
    mount(VIEW, { type: 'overlay', source: 'overlay', flags: MS_RDONLY, data: `lowerdir=overlay/${tree}/upper/${app}:../../../cas/tree/${tree}/rootfs` });
  } catch (error) {
    if (error instanceof SysError) throw new Stage1Error(`app "${app}": ${error.message}`, 'the pod may have ended before it was started');
    throw error;
  }
  return open(VIEW, O_PATH | O_DIRECTORY);
}
