/** The apps of a mutable pod as the monitor has them: what stage0 asks for is done in the guest, and recorded when it is done. */
import { exists } from '../../runtime/linux/files.ts';
import type { AgentMessage, HostMessage } from '../../src/wire/messages.ts';
import { Stage1Error } from '../error.ts';
import { forgetApp, readAddedApp, recordCreated } from '../pod/directory.ts';
import { printError } from '../report.ts';
import { stdioOfModes, type AppStreamSettings } from '../relay/stream-settings.ts';
import { requireRoom } from '../vmm/size.ts';
import type { HotDisks } from './hot-disks.ts';

/** Apps that were there at the start have small numbers, processes of `enter` begin at 1000. */
const FIRST_PROCESS = 1 << 24;
const STOP_GRACE_MS = 10_000;

export interface PodAppsHost {
  disks: HotDisks;
  memoryMiB: number;
  /** What the manifest of an app says about its streams. @throws Stage1Error */
  streamsOf(manifest: string): AppStreamSettings;
  send(message: HostMessage): void;
  /** The app is about to run: its streams are wanted, and its exit is to be recorded. */
  onStart(process: number, settings: AppStreamSettings): void;
  /** It did not start after all. */
  onStartFailed(process: number): void;
}

type Answer = Extract<AgentMessage, { type: 'done' | 'failed' }>;
/** Without `request`, which is put in here. */
type Request = { [T in 'app-add' | 'app-start' | 'app-stop' | 'app-remove']: Omit<Extract<HostMessage, { type: T }>, 'request'> }['app-add' | 'app-start' | 'app-stop' | 'app-remove'];

interface KnownApp {
  process: number;
  disk: string;
  settings: AppStreamSettings;
  memoryLimitBytes: number;
}

export type ChangeKind = 'app-add' | 'app-start' | 'app-stop' | 'app-rm';

export class PodApps {
  readonly #host: PodAppsHost;
  readonly #apps = new Map<string, KnownApp>();
  /** Apps are added and removed one after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  readonly #requests = new Map<number, { resolve(): void; reject(error: Error): void }>();
  #nextRequest = 1;
  #nextProcess = FIRST_PROCESS;

  constructor(host: PodAppsHost) {
    this.#host = host;
  }

  /** Settles when it has been done. @throws Stage1Error */
  change(kind: ChangeKind, name: string): Promise<void> {
    switch (kind) {
      case 'app-add': return this.#inTurn(() => this.#add(name));
      case 'app-start': return this.#start(name);
      case 'app-stop': return this.#stop(name);
      case 'app-rm': return this.#inTurn(() => this.#remove(name));
    }
  }

  /** Whoever asked for an app may be gone before it is there, and the next one asks to remove it. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    return done;
  }

  /** An answer of the agent; false when it is none to a request of ours. */
  onAnswer(answer: Answer): boolean {
    const waiting = this.#requests.get(answer.request ?? 0);
    if (waiting === undefined) return false;
    this.#requests.delete(answer.request ?? 0);
    if (answer.type === 'done') waiting.resolve();
    else waiting.reject(new Stage1Error(String(answer.message)));
    return true;
  }

  /** The guest is gone. */
  close(): void {
    for (const { reject } of this.#requests.values()) reject(new Stage1Error('the pod has ended'));
    this.#requests.clear();
  }

  async #add(name: string): Promise<void> {
    if (this.#apps.has(name)) throw new Stage1Error(`app "${name}" is in the pod already`);
    const { manifest, app, disk } = readAddedApp(name);
    const settings = this.#host.streamsOf(manifest);
    const wanted = app.memoryLimitBytes ?? 0;
    requireRoom([...this.#apps.values()].map(({ memoryLimitBytes }) => memoryLimitBytes), wanted, this.#host.memoryMiB);
    const process = this.#nextProcess++;
    const serial = await this.#host.disks.take(disk);
    const { dataBlocks, hashStartBlock, rootHashHex } = disk;
    try {
      await this.#ask({ type: 'app-add', app: { name, process, disk: { serial, dataBlocks, hashStartBlock, rootHashHex }, stdio: stdioOfModes(settings.modes) }, manifest });
    } catch (error) {
      await this.#giveBack(serial);
      throw error;
    }
    this.#apps.set(name, { process, disk: serial, settings, memoryLimitBytes: wanted });
    recordCreated([name]);
  }

  async #start(name: string): Promise<void> {
    const { process, settings } = this.#known(name);
    // An app that runs or has run is refused by the agent; its records stay as they are.
    const isNew = [`status/${name}-started`, `status/${name}`].every((path) => !exists(path));
    if (isNew) this.#host.onStart(process, settings);
    try {
      await this.#ask({ type: 'app-start', app: name });
    } catch (error) {
      if (isNew) this.#host.onStartFailed(process);
      throw error;
    }
  }

  async #stop(name: string): Promise<void> {
    this.#known(name);
    await this.#ask({ type: 'app-stop', app: name, graceMs: STOP_GRACE_MS });
  }

  /** One that is not there has been removed: whoever asks may have been interrupted the first time. */
  async #remove(name: string): Promise<void> {
    const app = this.#apps.get(name);
    if (app === undefined) return;
    await this.#ask({ type: 'app-remove', app: name });
    this.#apps.delete(name);
    forgetApp(name);
    await this.#giveBack(app.disk);
  }

  #known(name: string): KnownApp {
    const app = this.#apps.get(name);
    if (app === undefined) throw new Stage1Error(`no app "${name}" in this pod`);
    return app;
  }

  #ask(request: Request): Promise<void> {
    const number = this.#nextRequest++;
    return new Promise((resolve, reject) => {
      this.#requests.set(number, { resolve, reject });
      this.#host.send({ ...request, request: number });
    });
  }

  /** A guest that holds on to a disk has one place less; the app is gone all the same. */
  async #giveBack(serial: string): Promise<void> {
    try {
      await this.#host.disks.giveBack(serial);
    } catch (error) {
      printError(error);
    }
  }
}
