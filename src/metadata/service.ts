/**
 * The metadata service: a socket for registrations, a socket for each pod, and, if asked for, a TCP port for pods of other
 * stage1 images. A pod is known by the socket it comes by and by its token; over TCP by its token alone.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import type { Server } from 'node:net';
import { dirname, join } from 'node:path';
import { RktError } from '../error.ts';
import { pathInPod, POD_FILES, readPodManifest, readPodManifestText, walkPods } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { Answer } from './answer.ts';
import { limitedServer } from './http.ts';
import type { Received, ServerLimits } from './http.ts';
import { openIdentity } from './identity.ts';
import { hmacKeyPath, podSocket, podSocketDirectory } from './places.ts';
import { answerPod } from './public-api.ts';
import { readRegistered } from './registered-file.ts';
import { answerRegistration, describePod } from './registration-api.ts';
import { Registry } from './registry.ts';

/** A manifest with every field used. */
const REGISTRATION_LIMITS: ServerLimits = { bodyMaxBytes: 4 << 20, maxConnections: 64 };
/** For each pod. */
const POD_LIMITS: ServerLimits = { bodyMaxBytes: 256 << 10, maxConnections: 16 };
const TCP_LIMITS: ServerLimits = { bodyMaxBytes: 256 << 10, maxConnections: 256 };
const SOCKET_MODE = 0o600;
const DIRECTORY_MODE = 0o755;
/** Only root connects for a guest. */
const POD_SOCKETS_MODE = 0o700;

export interface ServiceOptions {
  /** Path of the registration socket. */
  socket: string;
  /** Listening sockets that the service was started with (sd_listen_fds(3)): a unix socket is for registrations, others are for pods. */
  inheritedFds: readonly number[];
  tcpPort?: number;
  /** Its running pods that were registered before this service was started are known again. */
  dataDir: string;
  /** Each request, without its token. */
  log(message: string): void;
  problem(message: string, cause: unknown): void;
}

/** Listens until it is closed. Throws RktError when it cannot. */
export async function startMetadataService(options: ServiceOptions): Promise<MetadataService> {
  mkdirSync(dirname(options.socket), { recursive: true, mode: DIRECTORY_MODE });
  mkdirSync(podSocketDirectory(options.socket), { recursive: true, mode: POD_SOCKETS_MODE });
  const service = new MetadataService(options);
  await service.listen();
  return service;
}

export class MetadataService {
  readonly #options: ServiceOptions;
  readonly #registry = new Registry();
  readonly #identity: ReturnType<typeof openIdentity>;
  /** By UUID. */
  readonly #podServers = new Map<string, Server>();
  readonly #servers: Server[] = [];

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#identity = openIdentity(hmacKeyPath(options.socket));
  }

  async listen(): Promise<void> {
    const { socket, inheritedFds, tcpPort } = this.#options;
    let takesRegistrations = false;
    const inherited: Server[] = [];
    for (const fd of inheritedFds) {
      const server: Server = limitedServer(REGISTRATION_LIMITS, (request) => (isUnix(server) ? this.#registration(request) : this.#public(request, undefined)));
      await listenOn(server, { fd });
      if (isUnix(server)) takesRegistrations = true;
      inherited.push(server);
    }
    if (!takesRegistrations) await freePath(socket);
    await this.#knowRegistered();
    this.#servers.push(...inherited);
    if (!takesRegistrations) {
      const server = limitedServer(REGISTRATION_LIMITS, (request) => this.#registration(request));
      await listenOn(server, { path: socket });
      chmodSync(socket, SOCKET_MODE);
      this.#servers.push(server);
    }
    if (tcpPort !== undefined) {
      const server = limitedServer(TCP_LIMITS, (request) => this.#public(request, undefined));
      await listenOn(server, { host: '0.0.0.0', port: tcpPort });
      this.#servers.push(server);
    }
  }

  close(): void {
    for (const server of [...this.#servers, ...this.#podServers.values()]) shut(server);
  }

  /** Pods that run already, from what their directories say; sockets of others are removed. */
  async #knowRegistered(): Promise<void> {
    const directory = podSocketDirectory(this.#options.socket);
    for (const name of readdirSync(directory)) rmSync(join(directory, name), { force: true });
    for (const pod of walkPods(this.#options.dataDir, ['run'])) {
      try {
        const registered = pod.state === 'running' ? readRegistered(pod) : undefined;
        if (registered?.socket !== this.#options.socket) continue;
        this.#registry.add(describePod({ uuid: pod.uuid, token: registered.token, manifest: readPodManifestText(pod), images: imageManifests(pod) }));
        await this.#open(pod.uuid);
      } catch (error) {
        this.#options.problem(`pod "${pod.uuid}" is not served`, error);
      }
    }
  }

  async #open(uuid: string): Promise<string> {
    const path = podSocket(this.#options.socket, uuid);
    if (this.#podServers.has(uuid)) return path;
    const server = limitedServer(POD_LIMITS, (request) => this.#public(request, uuid));
    await listenOn(server, { path });
    this.#podServers.set(uuid, server);
    return path;
  }

  async #registration(request: Received): Promise<Answer> {
    const services = {
      registry: this.#registry,
      open: (uuid: string) => this.#open(uuid),
      close: (uuid: string) => {
        shut(this.#podServers.get(uuid));
        this.#podServers.delete(uuid);
      },
    };
    return this.#logged(request, await answerRegistration(request, services));
  }

  #public(request: Received, uuid: string | undefined): Answer {
    return this.#logged(request, answerPod(request, { registry: this.#registry, identity: this.#identity }, uuid));
  }

  #logged({ method, target }: Received, answer: Answer): Answer {
    this.#options.log(`${method} ${withoutToken(target)} - ${answer.status}`);
    return answer;
  }
}

function imageManifests(pod: PodHandle): [app: string, manifest: string][] {
  return readPodManifest(pod).apps.map(({ name }) => [name, readFileSync(pathInPod(pod, `${POD_FILES.apps}/${name}/${POD_FILES.appManifest}`), 'utf8')]);
}

function isUnix(server: Server): boolean {
  return typeof server.address() === 'string';
}

type Place = { path: string } | { fd: number } | { host: string; port: number };

function listenOn(server: Server, where: Place): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(new RktError('IO', `the metadata service cannot listen on ${Object.entries(where).map(([kind, value]) => `${kind} ${value}`).join(', ')}`, { cause })));
    server.listen(where, () => resolve());
  });
}

/** Removes what a service that was killed has left. Throws RktError BUSY when one is listening there. */
async function freePath(path: string): Promise<void> {
  const isTaken = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
  if (isTaken) throw new RktError('BUSY', `a metadata service is running already: it listens on ${path}`);
  rmSync(path, { force: true });
}

function shut(server: (Server & { closeAllConnections?(): void }) | undefined): void {
  server?.close();
  server?.closeAllConnections?.();
}

/** Both `/TOKEN/acMetadata/…` and `/pods/UUID?token=TOKEN` hold a secret. Cut off: a guest can make it as long as a header may be. */
function withoutToken(target: string): string {
  const [path = ''] = target.split('?');
  return path.replace(/^\/[0-9a-f]{32,}(?=\/|$)/, '/TOKEN').slice(0, 256);
}
