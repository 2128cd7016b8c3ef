/**
 * The guest agent as an ordinary process: the same code but for the machine below it. Apps run in the caller's own root and
 * cgroup. Arguments: paths of the control and the stream socket; `break` to fail where nothing is expected to fail.
 */
import '../../runtime/sys.ts';
import { becomeSubreaper, exit } from '../../runtime/linux/process.ts';
import { listenUnix } from '../../runtime/linux/sockets.ts';
import { NR_write } from '../../runtime/abi.gen.ts';
import { Agent } from '../../guest-agent/agent.ts';
import { socketTransport } from '../../guest-agent/transport.ts';

const [, controlPath = '', streamPath = '', mode = ''] = sys.argv;

becomeSubreaper();

new Agent({
  transport: socketTransport({ control: listenUnix(controlPath), stream: listenUnix(streamPath) }),
  i386: true,
  ownsProcesses: false,
  prepareTransport() {},
  boot() {},
  openAttestation: () => () => {},
  configure: () => Promise.resolve(),
  place: () =>
    Promise.resolve({
      root: { mountNamespaceFd: null, inside: (work) => work() },
      cgroup: { fd: -1, signal() {}, kill() {}, memoryKills: () => ({ count: 0, limitBytes: undefined }), watchMemoryKills: () => () => {} },
    }),
  inspect: () => Promise.reject(new Error('needs a machine of its own')),
  findNewDisks() {},
  displace: () => Promise.resolve(),
  release() {
    if (mode === 'break') throw new TypeError('broken on purpose');
  },
  log(message) {
    const text = sys.utf8(`${message}\n`);
    sys.call(NR_write, 2, text, text.length - 1);
  },
  powerOff: () => exit(0),
}).run();
