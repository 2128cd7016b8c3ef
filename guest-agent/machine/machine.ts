/** What the agent asks of the system it runs on: the guest (guest.ts), or an ordinary process under test. */
import type { AppManifest, PodManifest } from '../app/manifest.ts';
import type { Limits } from '../app/isolators.ts';
import type { AttestServices } from '../measure/attest-server.ts';
import type { InspectMessage, StartMessage } from '../messages.ts';
import type { Transport } from '../transport.ts';

/** The file system of one app. */
export interface AppRoot {
  /** Null: processes stay in the agent's own mounts. */
  mountNamespaceFd: number | null;
  /** Runs `work` with the app's root as this process's root. */
  inside<T>(work: () => T): T;
}

/** Processes that the kernel has killed for want of memory. */
export interface MemoryKills {
  count: number;
  /** The app's own limit, where that was reached; undefined: the memory of the whole pod was used up. */
  limitBytes: number | undefined;
}

export interface AppCgroup {
  /** Directory descriptor for clone3; -1 when there is none. */
  fd: number;
  /** Sends to every process in it. */
  signal(signal: number): void;
  /** SIGKILL for every process in it, at once. */
  kill(): void;
  memoryKills(): MemoryKills;
  /** Calls back when that may have changed, until the function it returns is called. */
  watchMemoryKills(onKill: () => void): () => void;
}

export interface AppPlace {
  root: AppRoot;
  /** Where the app tells that it is ready, if its /dev is not its own. */
  notifyPath?: string;
  cgroup: AppCgroup;
}

export interface AppRequest {
  index: number;
  app: AppManifest;
  pod: PodManifest;
  start: StartMessage;
  limits: Limits;
  /** To be set before anything of the app runs. */
  sysctls: ReadonlyMap<string, string>;
  /** The app's terminal, to be shown as /dev/console. */
  terminalPath: string | undefined;
}

/** What an app had that no other app uses. */
export interface Leftovers {
  /** Serial of its disk; null: another app has the same. */
  disk: string | null;
  /** Names of empty volumes. */
  volumes: readonly string[];
}

export interface Machine {
  transport: Transport;
  /** Whether 32-bit programs run. */
  i386: boolean;
  /** Shares system-wide state among several agents when false: never kill what was not started here. */
  ownsProcesses: boolean;
  /** What must be there before the transport can listen. */
  prepareTransport(): void;
  /** The rest, while the host is being told. */
  boot(warn: (message: string) => void): void;
  /** Lets apps ask about their pod. Returns what shows them the records of the event log as they come. */
  openAttestation(services: AttestServices): (records: Uint8Array) => void;
  /** Clock, entropy, host name, network, writable disk. */
  configure(start: StartMessage): Promise<void>;
  place(request: AppRequest, warn: (message: string) => void): Promise<AppPlace>;
  /** Makes disks known that were plugged in after the start. */
  findNewDisks(): void;
  /** Undoes `place`, also one that has failed half-way. No process of the app is left. */
  displace(index: number, leftovers: Leftovers): Promise<void>;
  /** The root of an app of a pod that has ended, opened with O_PATH. Nothing of it runs or changes. */
  inspect(message: InspectMessage): Promise<number>;
  /** Writes everything back. Every process of the pod has ended. */
  release(warn: (message: string) => void): void;
  /** For the kernel's log. */
  log(message: string): void;
  /** The agent is done: nothing of it is called any more. */
  powerOff(): void;
}
