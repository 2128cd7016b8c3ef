/** The virtual machine, seen from its first process. */
import {
  EBUSY, EEXIST, LINUX_REBOOT_CMD_POWER_OFF, LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, MS_NOATIME, MS_NODEV, MS_NOEXEC,
  MS_NOSUID, MS_RDONLY, MS_REMOUNT, NR_finit_module, NR_mount, NR_reboot, NR_sethostname, NR_sync, O_APPEND, O_CREAT, O_PATH, O_RDONLY, O_WRONLY, RLIMIT_NOFILE,
} from '../../runtime/abi.gen.ts';
import { check, isErrno, SysError } from '../../runtime/linux/errors.ts';
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { exists, makeDirectories, makeDirectory, open, readText, writeFile } from '../../runtime/linux/files.ts';
import { mount, unmount } from '../../runtime/linux/mount.ts';
import { pause, setLimit } from '../../runtime/linux/process.ts';
import { addEntropy } from '../../runtime/linux/random.ts';
import { setWallClock } from '../../runtime/linux/time.ts';
import { UNVERIFIED } from '../../src/wire/messages.ts';
import { parseHex } from '../checked.ts';
import { serveAttestation } from '../measure/attest-server.ts';
import type { StartMessage } from '../messages.ts';
import { vsockTransport } from '../transport.ts';
import { buildAppRoot, makeLayer } from './app-root.ts';
import { findBlockDevice, rescanPci, scanBlockDevices } from './block-devices.ts';
import { CGROUP_ROOT, createCgroup, enableControllers, makeCgroup } from './cgroup.ts';
import { removePlace } from './displace.ts';
import { AGENT, appLayer, ATTEST, DISKS, NEW_ROOT, PROVIDED, SCRATCH } from './layout.ts';
import { openInspected } from './inspect.ts';
import type { AppCgroup, AppPlace, AppRequest, Machine } from './machine.ts';
import { forwardMetadata } from '../forward/metadata.ts';
import { configureNetwork, hostsFile, raiseLoopback, resolvConf } from './network.ts';
import type { ProvidedFiles } from './provided-layer.ts';
import { applySysctls } from './sysctl.ts';
import { buildTemplate } from './template.ts';
import { chooseDigest, createVerityDevice, openVerity } from './verity.ts';
import { mountShares, unmountShares } from './volume-mounts.ts';
import { planVolumes } from './volumes.ts';

const PSEUDO_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC;

/** As systemd's defaults: programs that use select() see a limit they can live with, others may raise it. */
const OPEN_FILES_SOFT = 1024n;
const OPEN_FILES_HARD = 524288n;

/** Of the writable disk, by convention. */
const SCRATCH_SERIAL = 'scratch';

interface MountedDisk {
  mountPoint: string;
  rootHashHex: string;
}

interface State {
  /** The kernel is a distribution's. */
  hasModules: boolean;
  namespaceFd: number;
  /** What has been mounted ahead of time. */
  scratchDevice: string | undefined;
  appNamespaceFds: Map<number, number>;
  cgroups: Map<number, AppCgroup>;
  /** By serial, for apps of one image. */
  disks: Map<string, MountedDisk>;
}

const state: State = { hasModules: false, namespaceFd: -1, scratchDevice: undefined, appNamespaceFds: new Map(), cgroups: new Map(), disks: new Map() };

export const guest: Machine = {
  transport: vsockTransport,
  ownsProcesses: true,
  i386: false,

  prepareTransport() {
    occupyStandardDescriptors();
    state.hasModules = loadModules();
  },

  boot(warn) {
    // Inherited by every app.
    setLimit(RLIMIT_NOFILE, OPEN_FILES_SOFT, OPEN_FILES_HARD);
    mountSystem(warn);
    state.namespaceFd = open('/proc/self/ns/mnt', O_RDONLY);
    guest.i386 = exists('/proc/sys/abi/vsyscall32');
    enableControllers();
    buildTemplate();
    prepareAhead(warn);
  },

  openAttestation(services) {
    makeDirectories(`${ATTEST}/tpm`);
    serveAttestation(`${ATTEST}/attest.sock`, services);
    const log = open(`${ATTEST}/tpm/binary_bios_measurements`, O_WRONLY | O_CREAT | O_APPEND, 0o444);
    return (records) => writeAll(log, records);
  },

  async configure(start) {
    setWallClock(BigInt(start.wallClockNs));
    const seed = parseHex(start.entropyHex) ?? new Uint8Array(0);
    if (seed.length > 0) addEntropy(seed);
    check(sys.call(NR_sethostname, start.hostname, start.hostname.length), 'sethostname', start.hostname);
    configureNetwork(start.network);
    if (start.metadataToken !== undefined) forwardMetadata();
    await mountScratch(start);
  },

  async place(request, warn): Promise<AppPlace> {
    applySysctls(request.app.name, request.sysctls);
    const lower = await mountDisk(request);
    const plan = planVolumes(request.app, request.pod.volumes);
    plan.warnings.forEach(warn);
    mountShares(plan.mounts, request.start.shares);
    const root = buildAppRoot(
      {
        app: request.app,
        layer: appLayer(request.index),
        providedLayer: `${PROVIDED}/${request.index + 1}`,
        lower,
        protectPaths: !request.start.insecure.paths,
        mounts: plan.mounts,
        shares: request.start.shares,
        terminalPath: request.terminalPath,
        etc: etcFiles(request.start),
        hasAttestation: request.start.hostLogHex !== null,
      },
      state.namespaceFd,
    );
    if (root.mountNamespaceFd !== null) state.appNamespaceFds.set(request.index, root.mountNamespaceFd);
    const cgroup = createCgroup(cgroupName(request.index), request.limits);
    state.cgroups.set(request.index, cgroup);
    return { root, cgroup };
  },

  findNewDisks: rescanPci,

  async displace(index, { disk, volumes }) {
    const openFds = [state.appNamespaceFds.get(index), state.cgroups.get(index)?.fd].filter((fd) => fd !== undefined);
    state.appNamespaceFds.delete(index);
    state.cgroups.delete(index);
    await removePlace({
      openFds,
      cgroup: `${CGROUP_ROOT}/${cgroupName(index)}`,
      directories: [`${PROVIDED}/${index + 1}`, appLayer(index), ...volumes.map((name) => `${SCRATCH}/volumes/${name}`)],
      disk: disk === null ? null : { serial: disk, mountPoint: state.disks.get(disk)?.mountPoint },
    });
    if (disk !== null) state.disks.delete(disk);
  },

  inspect: openInspected,

  release(warn) {
    // The disk is in use for as long as an app's file system exists, and that for as long as its namespace does.
    for (const fd of state.appNamespaceFds.values()) close(fd);
    unmountShares();
    try {
      unmount(SCRATCH); // writes everything back
    } catch (error) {
      // Something still holds it: what was written is safe all the same once it is read-only.
      warn(`writable disk: ${String(error)}`);
      sys.call(NR_mount, null, SCRATCH, null, MS_REMOUNT | MS_RDONLY, null);
      sys.call(NR_sync);
    }
  },

  log(message) {
    try {
      writeFile('/dev/kmsg', `<3>rkt-agent: ${message}\n`, { flags: O_WRONLY });
    } catch {
      // Too early, or too late.
    }
  },

  powerOff() {
    // A machine without ACPI cannot be switched off; it is told to restart, which ends it because the VMM does not restart guests.
    const command = readCommandLine().includes('reboot=t') ? LINUX_REBOOT_CMD_RESTART : LINUX_REBOOT_CMD_POWER_OFF;
    for (;;) {
      sys.call(NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, null);
      pause(1000);
    }
  },
};

function readCommandLine(): string[] {
  try {
    return readText('/proc/cmdline').trim().split(' ');
  } catch {
    return [];
  }
}

/** The kernel may have given this process no open files: 0, 1, 2 must never become something else. */
function occupyStandardDescriptors(): void {
  let fd: number;
  do fd = open('/', O_PATH);
  while (fd < 3);
  close(fd);
}

/** A distribution's kernel comes with the modules it needs, named in load order. */
function loadModules(): boolean {
  let order: string;
  try {
    order = readText('/modules/order');
  } catch {
    return false; // everything is built in
  }
  for (const name of order.split('\n')) {
    if (name === '') continue;
    const fd = open(`/modules/${name}`, O_RDONLY);
    const result = sys.call(NR_finit_module, fd, '', 0);
    close(fd);
    if (result < 0 && result !== -EEXIST) throw new SysError(`load module ${name}`, -result);
  }
  return true;
}

function mountSystem(warn: (message: string) => void): void {
  for (const directory of ['/proc', '/sys', '/dev', '/run', '/tmp', AGENT]) makeDirectory(directory);
  mount('/proc', { type: 'proc', source: 'proc', flags: PSEUDO_FLAGS });
  mount('/sys', { type: 'sysfs', source: 'sysfs', flags: PSEUDO_FLAGS });
  try {
    mount('/dev', { type: 'devtmpfs', source: 'dev', flags: MS_NOSUID });
  } catch (error) {
    if (!isErrno(error, EBUSY)) throw error; // the kernel has done it
  }
  mount(AGENT, { type: 'tmpfs', source: 'agent', flags: MS_NOSUID | MS_NODEV, data: 'mode=700' });
  for (const directory of [DISKS, SCRATCH, NEW_ROOT, '/dev/pts', '/dev/shm']) makeDirectories(directory);
  mount('/dev/pts', { type: 'devpts', source: 'devpts', flags: MS_NOSUID | MS_NOEXEC, data: 'ptmxmode=0666,mode=0620,gid=5' });
  mount('/dev/shm', { type: 'tmpfs', source: 'shm', flags: MS_NOSUID | MS_NODEV | MS_NOEXEC, data: 'mode=1777' });
  mount(CGROUP_ROOT, { type: 'cgroup2', source: 'cgroup2', flags: PSEUDO_FLAGS });
  try {
    makeDirectory('/dev/mqueue');
    mount('/dev/mqueue', { type: 'mqueue', source: 'mqueue', flags: PSEUDO_FLAGS });
  } catch (error) {
    warn(`POSIX message queues: ${String(error)}`); // CONFIG_POSIX_MQUEUE is not set
  }
}

const cgroupName = (index: number): string => `app-${index + 1}`;

/**
 * What every pod will ask for, done while the host answers: nothing here depends on the pod, and all of it is checked or redone
 * if the pod turns out to want something else.
 */
function prepareAhead(warn: (message: string) => void): void {
  try {
    raiseLoopback();
    makeCgroup(cgroupName(0));
    // The own kernel makes the choice itself.
    if (state.hasModules) chooseDigest();
    const devices = scanBlockDevices();
    for (const serial of devices.keys()) if (serial.startsWith('app-')) createVerityDevice(serial);
    const scratch = devices.get(SCRATCH_SERIAL);
    if (scratch === undefined) return;
    mountScratchDisk(scratch);
    state.scratchDevice = scratch;
    makeLayer(appLayer(0));
  } catch (error) {
    warn(`preparation: ${String(error)}`); // reported again, with its consequences, when it is needed
  }
}

function mountScratchDisk(device: string): void {
  // The image is new and all zeroes: nothing needs to be initialised behind the apps' backs.
  mount(SCRATCH, { type: 'ext4', source: device, flags: MS_NODEV | MS_NOATIME, data: 'noinit_itable' });
}

async function mountScratch({ scratch }: StartMessage): Promise<void> {
  const device = scratch.kind === 'disk' ? await findBlockDevice(scratch.serial) : undefined;
  if (state.scratchDevice !== undefined) {
    if (state.scratchDevice === device) return;
    unmount(SCRATCH);
  }
  if (device !== undefined) mountScratchDisk(device);
  if (scratch.kind === 'tmpfs') mount(SCRATCH, { type: 'tmpfs', source: 'scratch', flags: MS_NODEV, data: `mode=755,size=${scratch.sizeBytes}` });
}

async function mountDisk({ index, start }: AppRequest): Promise<string> {
  const app = start.apps[index];
  if (app === undefined) throw new Error(`no disk for app ${index}`);
  const { disk, share } = app;
  const mounted = state.disks.get(disk.serial);
  if (mounted !== undefined) {
    // What was measured of this app is what it gets.
    if (mounted.rootHashHex !== disk.rootHashHex) throw new Error(`disk "${disk.serial}" is open with another root hash`);
    return mounted.mountPoint;
  }
  // What has been measured is what is used: a root hash stands for a disk that is checked.
  if ((share !== undefined) !== (disk.rootHashHex === UNVERIFIED)) throw new Error(`app "${app.name}": a shared directory has no root hash, and a disk must have one`);
  const source = share ?? openVerity(await findBlockDevice(disk.serial), disk);
  const target = `${DISKS}/${index}`;
  makeDirectory(target);
  mount(target, { type: share === undefined ? 'erofs' : 'virtiofs', source, flags: MS_RDONLY | MS_NODEV });
  state.disks.set(disk.serial, { mountPoint: target, rootHashHex: disk.rootHashHex });
  return target;
}

function etcFiles({ hostname, network }: StartMessage): ProvidedFiles {
  const files = new Map([['hostname', `${hostname}\n`]]);
  const fallbackFiles = new Map<string, string>();
  const hosts = network?.hosts ?? [];
  (hosts.length > 0 ? files : fallbackFiles).set('hosts', hostsFile(hostname, hosts));
  if (network?.writeResolvConf) files.set('resolv.conf', resolvConf(network.dns));
  return { files, fallbackFiles };
}
