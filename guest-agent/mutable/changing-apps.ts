/** The apps of a mutable pod: they come, run once and go while the pod runs. Every change is measured before it is made. */
import { NATIVE_HASHES } from '../../runtime/linux/hashes.ts';
import { after } from '../../runtime/loop.ts';
import type { JsonObject } from '../../src/tpm/canonical-json.ts';
import { measuredApp } from '../../src/tpm/measured-manifest.ts';
import type { Measurement } from '../../src/tpm/measurements.ts';
import type { StartApp } from '../../src/wire/messages.ts';
import { openApp, type App, type PodContext } from '../app/app.ts';
import { parseAddedApp, type PodManifest } from '../app/manifest.ts';
import { asObject } from '../checked.ts';
import type { ChangeMessage } from '../messages.ts';

/** What the agent does for it. */
export interface PodHost {
  context: PodContext;
  /** Throws: then what was to be measured must not happen. */
  measure(measurement: Measurement): void;
  /** Makes the app known: its streams, signals, `exec`. */
  register(app: App): void;
  unregister(app: App): void;
  /** Settles when nothing of the app is left. `onStart` is called with null when it runs, else with why it does not. */
  run(app: App, onStart: (error: unknown) => void): Promise<void>;
}

interface Entry {
  app: App;
  /** The one app as a pod of its own, with its volumes. */
  pod: PodManifest;
  index: number;
  disk: string;
  state: 'created' | 'running' | 'exited';
  /** Settles when it has exited. */
  ended: Promise<void>;
}

export class ChangingApps {
  readonly #host: PodHost;
  readonly #entries = new Map<string, Entry>();
  /** Being added or removed. */
  readonly #busy = new Set<string>();
  /** Apps are added and removed one after the other: they may share disks and volumes. */
  #queue: Promise<unknown> = Promise.resolve();
  /** Never used twice: directories and groups are called by it. */
  #nextIndex: number;
  #isEnding = false;
  #resolveEnded: () => void = () => undefined;
  /** Settles after `end`, when nothing of any app runs. */
  readonly ended: Promise<void>;

  constructor(host: PodHost) {
    this.#host = host;
    this.#nextIndex = host.context.start.apps.length;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** Settles when it is done. @throws why it was not */
  change(message: ChangeMessage): Promise<void> {
    switch (message.type) {
      case 'app-add':
        return this.#alone(message.app.name, () => this.#add(message.app, message.manifest));
      case 'app-start':
        return this.#start(message.app);
      case 'app-stop':
        return this.#stop(message.app, message.graceMs);
      case 'app-remove':
        return this.#alone(message.app, () => this.#remove(message.app));
    }
  }

  /** No more changes; what runs is ended by the agent. */
  end(): void {
    this.#isEnding = true;
    Promise.allSettled([this.#queue, ...[...this.#entries.values()].map(({ ended }) => ended)]).finally(this.#resolveEnded);
  }

  async #alone(name: string, work: () => Promise<void>): Promise<void> {
    if (this.#isEnding) throw new Error('the pod is ending');
    if (this.#busy.has(name)) throw new Error(`app "${name}" is being added or removed`);
    this.#busy.add(name);
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    try {
      await done;
    } finally {
      this.#busy.delete(name);
    }
  }

  async #add(startApp: StartApp, manifest: string): Promise<void> {
    const { name, disk } = startApp;
    if (this.#entries.has(name)) throw new Error(`app "${name}" is in the pod already`);
    const runtimeApp = asObject(JSON.parse(manifest), 'app');
    const pod = parseAddedApp(runtimeApp);
    const imageId = String(asObject(runtimeApp['image'], 'app.image')['id']);
    this.#host.measure({ kind: 'app-add', name, imageId, rootHash: disk.rootHashHex, manifest: measuredApp(runtimeApp as JsonObject, NATIVE_HASHES.sha256) });
    const { context } = this.#host;
    const index = this.#nextIndex++;
    context.start.apps[index] = startApp;
    context.machine.findNewDisks();
    try {
      const app = await openApp({ ...context, pod }, index);
      this.#entries.set(name, { app, pod, index, disk: disk.serial, state: 'created', ended: Promise.resolve() });
      this.#host.register(app);
    } catch (error) {
      await this.#displace({ pod, index, disk: disk.serial });
      throw error;
    }
  }

  async #start(name: string): Promise<void> {
    const entry = this.#entryOf(name);
    if (entry.state === 'running') throw new Error(`app "${name}" is running already`);
    // What it has written is there still, and so are half-done things: an app runs once, like a pod.
    if (entry.state === 'exited') throw new Error(`app "${name}" has exited, and an app runs only once: remove it and add it again`);
    this.#host.measure({ kind: 'app-start', name });
    entry.state = 'running';
    await new Promise<void>((resolve, reject) => {
      entry.ended = this.#host.run(entry.app, (error) => (error === null ? resolve() : reject(error as Error))).finally(() => {
        entry.state = 'exited';
        resolve();
      });
    });
  }

  async #stop(name: string, graceMs: number): Promise<void> {
    const entry = this.#entryOf(name);
    if (entry.state !== 'running') return;
    this.#host.measure({ kind: 'app-stop', name });
    entry.app.terminate();
    const timer = after(graceMs, () => entry.app.kill());
    await entry.ended.finally(() => timer.cancel());
  }

  async #remove(name: string): Promise<void> {
    const entry = this.#entries.get(name) ?? unknownApp(name);
    if (entry.state === 'running') throw new Error(`app "${name}" is still running`);
    this.#host.measure({ kind: 'app-remove', name });
    entry.app.discard();
    this.#host.unregister(entry.app);
    await this.#displace(entry);
    this.#entries.delete(name);
  }

  #entryOf(name: string): Entry {
    if (this.#isEnding) throw new Error('the pod is ending');
    if (this.#busy.has(name)) throw new Error(`app "${name}" is being added or removed`);
    return this.#entries.get(name) ?? unknownApp(name);
  }

  /** A disk or volume of other apps stays. */
  async #displace({ pod, index, disk }: Pick<Entry, 'pod' | 'index' | 'disk'>): Promise<void> {
    const others = [...this.#entries.values()].filter((entry) => entry.index !== index);
    const isUsed = (volume: string): boolean => others.some((other) => other.pod.volumes.some(({ name }) => name === volume));
    const { context } = this.#host;
    await context.machine.displace(index, {
      disk: others.some((other) => other.disk === disk) ? null : disk,
      volumes: pod.volumes.flatMap(({ kind, name }) => (kind === 'empty' && !isUsed(name) ? [name] : [])),
    });
    delete context.start.apps[index];
  }
}

function unknownApp(name: string): never {
  throw new Error(`no app "${name}" in this pod`);
}
