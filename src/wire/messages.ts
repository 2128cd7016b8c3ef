/**
 * Messages between host (monitor, `enter`) and guest agent. See docs/wire-protocol.md.
 * The agent listens on both ports; it announces that it does by one connection attempt to KNOCK_PORT on the host.
 */
export const WIRE_VERSION = 1;
export const CONTROL_PORT = 1024;
export const STREAM_PORT = 1025;
/** Host port the agent tries once when it has begun to listen. The attempt itself is the message: it may be refused. */
export const KNOCK_PORT = 1026;
/** The metadata service: on the guest's loopback interface for its apps, and as the port of the host that leads to the service. */
export const METADATA_PORT = 18112;

/** Chosen by whoever starts the process, unique within one pod while it lives. Apps: 1..n in manifest order; `enter`: answered in `created`. */
export type ProcessId = number;
export type StreamName = 'stdin' | 'stdout' | 'stderr' | 'tty';

export interface TerminalSize {
  rows: number;
  cols: number;
}

/** How a process's standard streams are connected. `tty` is one bidirectional stream instead of three. */
export type Stdio =
  | {
      kind: 'streams';
      stdin: boolean;
      /** False: /dev/null, as without `stdin`. */
      stdout?: boolean;
      stderr?: boolean;
      /** Of `exec`: stdout and stderr are connected when the agent says that there is something in them (`output`), and only then. */
      announced?: boolean;
    }
  | { kind: 'tty'; size: TerminalSize; /** False: /dev/null in place of the terminal. */ stdin?: boolean; stdout?: boolean; stderr?: boolean };

/** dm-verity (hash type 1, SHA-256, 4096-byte blocks, no salt) over a read-only virtio-blk device. */
export interface VerityDisk {
  /** virtio-blk serial of the device. */
  serial: string;
  dataBlocks: number;
  /** First block of the hash tree itself (behind the verity superblock). */
  hashStartBlock: number;
  rootHashHex: string;
}

/** In the place of a root hash: nothing vouches for the content of this app's image. Measured like one. */
export const UNVERIFIED = '0'.repeat(64);

export interface StartApp {
  /** Name of the app in the pod manifest. */
  name: string;
  process: ProcessId;
  disk: VerityDisk;
  /** Tag of a shared directory that is the app's image instead of the disk, whose root hash then is UNVERIFIED. */
  share?: string;
  stdio: Stdio;
}

/** A directory of the host that the guest can mount (virtio-fs). */
export interface HostShare {
  /** Of the virtio-fs device. */
  tag: string;
  /** Name of the volume in the pod manifest. */
  volume: string;
  /** Null: a volume of the pod; else of a mount of this app (`appVolume`). */
  app: string | null;
  /** `file`: the volume is the file named `file` in the root of the share. */
  kind: 'directory' | 'file';
}

export interface NetworkInterface {
  /** Lower-case colon form; how the agent finds the device. */
  mac: string;
  name: string;
  /** CIDR form, `10.0.2.15/24`, `fd00::2/64`. */
  addresses: string[];
  /** All there are, in the order in which they can be added: addresses bring none of their own. */
  routes: { destination: string; gateway?: string; source?: string; metric?: number }[];
  /** Neighbours that are known for good. */
  neighbours: { address: string; mac: string }[];
  mtu?: number;
}

export interface Network {
  interfaces: NetworkInterface[];
  dns: { nameservers: string[]; search: string[]; options: string[]; domain?: string };
  /** Whether the pod's DNS settings replace the image's /etc/resolv.conf. */
  writeResolvConf: boolean;
  hosts: { address: string; names: string[] }[];
}

/** Host → agent. The first control connection's first message is `start`; `exec` may come on any connection. */
export type HostMessage =
  | {
      type: 'start';
      version: number;
      uuid: string;
      hostname: string;
      /** The pod manifest file, byte for byte as text: the agent acts on this and nothing else. */
      podManifest: string;
      apps: StartApp[];
      /** virtio-blk serial of the writable disk (ext4), or tmpfs of a size. */
      scratch: { kind: 'disk'; serial: string } | { kind: 'tmpfs'; sizeBytes: number };
      /** One for each volume of kind host. */
      shares: HostShare[];
      network: Network | null;
      /** Nanoseconds since the epoch, decimal. */
      wallClockNs: string;
      /** Seed for the guest's random pool. */
      entropyHex: string;
      /** `--insecure-options` that the agent honours. */
      insecure: { capabilities: boolean; paths: boolean; seccomp: boolean };
      /** What the host has measured into the guest's TPM, hexadecimal (an event log); null: there is no TPM. */
      hostLogHex: string | null;
      /** From now on the host may neither run anything in the pod nor change it. */
      sealed: boolean;
      /** Of the metadata service, hexadecimal; absent when the pod is not registered. Secret, and not measured. */
      metadataToken?: string;
    }
  | {
      type: 'exec';
      /** Echoed in `created` or `failed`. */
      request: number;
      app: string;
      argv: string[];
      /** Added to the app's own environment (TERM and the like). */
      env: Record<string, string>;
      stdio: Stdio;
      /** The host knows the event this is measured as: `measuring` need not tell it. */
      isExpected?: boolean;
    }
  /** Somebody is about to give an app input: answered by `attached`. Before it the agent passes none on to an app whose input is for attached clients. */
  | { type: 'attach'; request: number; app: string; stream: string }
  | { type: 'signal'; process: ProcessId; signal: number }
  | { type: 'resize'; process: ProcessId; size: TerminalSize }
  /** Mutable pods, from the connection that sent `start` only; each is answered by `done` or `failed`. */
  | {
      type: 'app-add';
      request: number;
      /** Its disk is plugged in already. */
      app: StartApp;
      /** The app as it stands in the pod manifest (RuntimeApp with its volumes in `mounts`), as text: the agent acts on this and nothing else. */
      manifest: string;
    }
  | { type: 'app-start'; request: number; app: string }
  /** TERM to everything in the app, KILL after graceMs; answered when nothing of it is left. */
  | { type: 'app-stop'; request: number; app: string; graceMs: number }
  /** Answered when the guest lets go of the app's disk, unless another app uses it. */
  | { type: 'app-remove'; request: number; app: string }
  /** TERM to every app, KILL after graceMs, then sync and power off. */
  | { type: 'shutdown'; graceMs: number }
  | { type: 'ping'; request: number }
  /** Instead of `start`, for a pod that has ended: opens the files of one app for reading, from disks that cannot be written. Answered by `ready`. */
  | {
      type: 'inspect';
      app: string;
      disk: VerityDisk;
      /** What the app wrote: the disk it is on and the app's number there, from 1. Null: nothing was kept. */
      written: { serial: string; layer: number } | null;
    }
  /** What the running apps use; answered by `usage`. */
  | { type: 'usage'; request: number }
  /** The processes of an app; answered by `processes` or `failed`. */
  | { type: 'processes'; request: number; app: string }
  /** Answers `endorse`: PodKeyEndorsement of src/tpm/evidence.ts with bytes in hexadecimal, or why there is none. */
  | { type: 'endorsement'; request: number; endorsement: { attest: string; signature: string; certificatesPem: string; endorsementKeyCertificatesPem: string } | null; error?: string };

export type ExitStatus = { kind: 'code'; code: number } | { kind: 'signal'; signal: number; coreDumped: boolean };

/** Agent → host. */
export type AgentMessage =
  /** First on a connection that is made before `start`. */
  | { type: 'hello'; version: number; kernelRelease: string; uptimeMs: number }
  | { type: 'created'; request: number; process: ProcessId }
  /** There is something in a stream that was to be announced. All that is left behind is announced before `exited`. */
  | { type: 'output'; process: ProcessId; stream: 'stdout' | 'stderr' }
  | { type: 'started'; process: ProcessId; app: string; pid: number; uptimeMs: number }
  /** A run of the app has ended, and after `delayMs` there will be another: `count` restarts so far, this one included. */
  | { type: 'restarting'; process: ProcessId; app: string; status: ExitStatus; count: number; delayMs: number; uptimeMs: number }
  /** The app's own words about its state (sd_notify's STATUS=). */
  | { type: 'notified'; app: string; status: string }
  /** Every app of the pod has been started, and those that tell by themselves have said that they are ready. */
  | { type: 'ready'; uptimeMs: number }
  | { type: 'exited'; process: ProcessId; app: string; status: ExitStatus; oomKilled: boolean; uptimeMs: number }
  /** How many processes of the app the kernel has killed for want of memory since it began: of its own (its limit), or of the pod's (null). */
  | { type: 'out-of-memory'; process: ProcessId; app: string; killed: number; limitBytes: number | null }
  /** What the request asked for has happened. */
  | { type: 'done'; request: number }
  /** Something the host asked for did not happen. Names the app and the step; with `request` it answers that. */
  | { type: 'failed'; request?: number; app?: string; step: string; message: string; exitCode?: number }
  /** Answers `attach`; with an error the input must not be sent. */
  | { type: 'attached'; request: number; error?: string }
  | { type: 'pong'; request: number }
  | { type: 'usage'; request: number; uptimeMs: number; memoryTotalBytes: number; network: { receivedBytes: number; sentBytes: number }; apps: AppUsage[] }
  /** `total` may be more than are told of. */
  | { type: 'processes'; request: number; uptimeMs: number; total: number; processes: ProcessInfo[] }
  /** The agent is about to extend these events into the pod's TPM, in this order: records of the event log, hexadecimal. */
  | { type: 'measuring'; records: string[] }
  /** The agent wants the host's word for the key (by its name, hexadecimal) that signs the pod's quotes. */
  | { type: 'endorse'; request: number; keyName: string }
  | { type: 'warning'; message: string }
  /** The agent itself broke: the pod ends. */
  | { type: 'fatal'; message: string; stack: string }
  /** All apps have ended and the writable disk is unmounted: nothing is lost if the VM is stopped now. */
  | { type: 'halted'; uptimeMs: number };

/** Counters go on through restarts of the app. */
export interface AppUsage {
  app: string;
  cpuMicroseconds: number;
  memoryBytes: number;
  memoryPeakBytes: number;
  /** Null: none of its own. */
  memoryLimitBytes: number | null;
  /** Threads, too. */
  processes: number;
  processesLimit: number | null;
  /** From and to disks. */
  readBytes: number;
  writtenBytes: number;
}

export interface ProcessInfo {
  /** In the guest. */
  pid: number;
  parentPid: number;
  /** A name of the app's /etc/passwd, or a number. */
  user: string;
  /** A letter of proc(5). */
  state: string;
  /** Device number; 0: none. */
  terminal: number;
  cpuMs: number;
  /** On the clock of `uptimeMs`. */
  startedMs: number;
  /** Arguments, or the kernel's name for it in brackets. */
  command: string;
}

/** First frame on a connection to STREAM_PORT; raw bytes of that stream follow, half-close ends it. */
export interface StreamHeader {
  process: ProcessId;
  stream: StreamName;
}

/**
 * The other kind of first frame: the connection is for a TCP port of the guest. The agent answers with one byte, 0 or the errno
 * (Linux's) with which connecting to the port on the guest's loopback failed, which ends the connection; raw bytes follow both ways.
 */
export interface ForwardHeader {
  forward: number;
}
