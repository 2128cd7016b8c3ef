/**
 * `export --inspect=APP [flags of run] UUID`: the files of an app of a pod that has ended, as a tree on standard output (src/wire/files.ts).
 * A guest reads the disks: what another guest has written is nothing for this host's kernel. Nothing of the pod changes.
 */
import { EPOLLIN, SIGKILL, SIGPIPE } from '../runtime/abi.gen.ts';
import { writeRaw } from '../runtime/linux/fds.ts';
import { pidfdOpen, setParentDeathSignal } from '../runtime/linux/process.ts';
import { blockSignals } from '../runtime/linux/signals.ts';
import { after, runLoop, watch } from '../runtime/loop.ts';
import type { FilesHeader } from '../src/wire/files.ts';
import { encodeFrame } from '../src/wire/frame.ts';
import { CONTROL_PORT, STREAM_PORT, type AgentMessage } from '../src/wire/messages.ts';
import { leave } from './children.ts';
import { drainText } from './console.ts';
import { Stage1Error, STAGE1_FAILURE } from './error.ts';
import { FrameChannel } from './frame-channel.ts';
import { launchPod, type LaunchedPod } from './launch.ts';
import { parseRunArguments } from './options.ts';
import { readPod } from './pod/directory.ts';
import { INSPECTED_SERIAL } from './pod/inspected.ts';
import { appSerial } from './pod/start-message.ts';
import { HostStream } from './relay/host-stream.ts';
import { pumpOut } from './relay/pump.ts';
import { printError } from './report.ts';
import { BOOT_DEADLINE_MS } from './run.ts';

const SHOWN_CONSOLE_LINES = 12;

export function exportApp(args: readonly string[]): void {
  const options = parseRunArguments(args);
  const app = options.inspectedApp;
  if (app === null) throw new Stage1Error('--inspect is missing');
  setParentDeathSignal(SIGKILL);
  blockSignals([SIGPIPE]);
  // Its number is that of the whole pod.
  const layer = readPod().apps.findIndex(({ app: { name } }) => name === app) + 1;
  const launched = launchPod(options, (fault) => fail(new Stage1Error(`the guest broke the rules of its vsock device: ${fault.message}`)));
  const console = drainText(launched.consoleFd, options.debug ? { copyTo: 2 } : {});
  const errors = drainText(launched.qemuErrorFd);
  const fail = (error: unknown): never => {
    console.drain();
    errors.drain();
    printError(error, { lines: [...errors.tail(SHOWN_CONSOLE_LINES), ...console.tail(SHOWN_CONSOLE_LINES)] });
    launched.transport.close();
    leave(STAGE1_FAILURE);
  };
  runLoop(fail);
  watch(pidfdOpen(launched.qemuPid), EPOLLIN, () => fail(new Stage1Error('the guest stopped while the pod was read')));
  const deadline = after(BOOT_DEADLINE_MS[launched.machine.accelerator], () => fail(new Stage1Error('the guest did not start in time')));
  launched.transport.agentListens
    .then(async () => {
      deadline.cancel();
      await inspect(launched, app, layer);
      await relay(launched, app);
      launched.transport.close();
      leave(0);
    })
    .catch(fail);
}

async function inspect({ pod, transport }: LaunchedPod, app: string, layer: number): Promise<void> {
  const { dataBlocks, hashStartBlock, rootHashHex } = pod.apps[0]!.disk;
  const fd = await transport.open(CONTROL_PORT);
  await new Promise<void>((resolve, reject) => {
    const channel = new FrameChannel(fd, {
      onEnd: () => reject(new Stage1Error("the guest's agent closed its connection")),
      onMessage(message: AgentMessage) {
        if (message.type === 'ready') resolve();
        else if (message.type === 'failed') reject(new Stage1Error(`app "${app}": ${message.message}`));
        else if (message.type === 'warning') printError(new Stage1Error(`warning: ${message.message}`));
      },
    });
    channel.send({
      type: 'inspect',
      app,
      disk: { serial: appSerial(0), dataBlocks, hashStartBlock, rootHashHex },
      written: pod.hasScratchDisk ? { serial: INSPECTED_SERIAL, layer } : null,
    });
  });
}

async function relay({ transport }: LaunchedPod, app: string): Promise<void> {
  const fd = await transport.open(STREAM_PORT);
  const request: FilesHeader = { files: { direction: 'out', app, path: '/', followLink: false, xattrs: true } };
  // A fresh socket takes it whole.
  writeRaw(fd, encodeFrame(request));
  await pumpOut(fd, new HostStream(1, 'out'));
}
