/** Makes a pod known to the metadata service, and unknown again. */
import { randomBytes } from 'node:crypto';
import { readFileSync, symlinkSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { pathInPod, POD_FILES, readPodManifestText } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { GUEST_LINK } from './places.ts';
import { readRegistered, writeRegistered } from './registered-file.ts';

const TOKEN_BYTES = 16;
const ATTEMPTS = 3;
const PAUSE_MS = 1000;
const TIMEOUT_MS = 10_000;
const LARGEST_ANSWER_BYTES = 64 << 10;

/**
 * Registers the pod, which this process has locked, and leads its guest's connections to the service. Gives the token.
 * Throws RktError NETWORK in rkt's words when there is no service.
 */
export async function registerPod(pod: PodHandle, { socket, apps, log }: { socket: string; apps: readonly string[]; log(message: string): void }): Promise<string> {
  const token = randomBytes(TOKEN_BYTES).toString('hex');
  const answer = await send({ socket, method: 'PUT', path: `/pods/${pod.uuid}?token=${token}`, body: readPodManifestText(pod), log });
  writeRegistered(pod, { token, socket });
  for (const app of apps) {
    const manifest = readFileSync(pathInPod(pod, `${POD_FILES.apps}/${app}/${POD_FILES.appManifest}`), 'utf8');
    await send({ socket, method: 'PUT', path: `/pods/${pod.uuid}/${app}`, body: manifest, log });
  }
  const { socket: podSocket } = JSON.parse(answer) as { socket?: unknown };
  if (typeof podSocket !== 'string') throw new RktError('NETWORK', 'the metadata service named no socket for the pod');
  symlinkSync(podSocket, pathInPod(pod, GUEST_LINK));
  return token;
}

/** Does nothing for a pod that was never registered. Throws RktError; a service that has ended has forgotten the pod anyway. */
export async function unregisterPod(pod: PodHandle): Promise<void> {
  const registered = readRegistered(pod);
  if (registered === undefined) return;
  try {
    await sendOnce({ socket: registered.socket, method: 'DELETE', path: `/pods/${pod.uuid}`, body: '' });
  } catch (error) {
    if (!isUnreachable(error) && !(error instanceof Refused && error.status === 404)) throw error;
  }
}

interface Sending {
  socket: string;
  method: 'PUT' | 'DELETE';
  path: string;
  body: string;
}

async function send(sending: Sending & { log(message: string): void }): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await sendOnce(sending);
    } catch (error) {
      if (error instanceof Refused) throw new RktError('NETWORK', 'failed to register pod with metadata svc', { cause: error });
      sending.log(error instanceof Error ? error.message : String(error));
      if (attempt === ATTEMPTS) throw isUnreachable(error) ? unreachable(error) : new RktError('NETWORK', 'failed to register pod with metadata svc', { cause: error });
    }
    await pause(PAUSE_MS);
  }
}

function isUnreachable(error: unknown): boolean {
  return isErrno(error, 'ENOENT', 'ECONNREFUSED', 'ENOTSOCK');
}

function unreachable(cause: unknown): RktError {
  const message = 'could not reach the metadata service.\nMake sure metadata service is currently running or use\n"rkt run --mds-register=false" to skip pod registration.';
  return new RktError('NETWORK', message, { hint: 'start it with `rkt metadata-service`', cause });
}

/** The service has answered, and not with 200. */
class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

function sendOnce({ socket, method, path, body }: Sending): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({ socketPath: socket, method, path, timeout: TIMEOUT_MS, headers: { 'Content-Length': Buffer.byteLength(body) } }, (incoming) => {
      let answer = '';
      incoming.setEncoding('utf8');
      incoming.on('data', (chunk: string) => {
        answer += chunk;
        if (answer.length > LARGEST_ANSWER_BYTES) outgoing.destroy(new Error('the metadata service says too much'));
      });
      incoming.on('error', reject);
      incoming.on('end', () => {
        const status = incoming.statusCode ?? 0;
        if (status === 200) resolve(answer);
        // Without the query: the token is in it.
        else reject(new Refused(status, `${method} ${path.split('?')[0] ?? ''} returned ${status}: ${answer.trim()}`));
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('the metadata service does not answer')));
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
