/**
 * How pods become known, for root on this host:
 *
 *   PUT    /pods/UUID?token=TOKEN   pod manifest; answered with the socket for the pod, `{"socket": PATH}`
 *   PUT    /pods/UUID/APP           image manifest
 *   DELETE /pods/UUID
 */
import { isUUID } from '../pod/index.ts';
import { isACName } from '../schema/names.ts';
import { parseImageManifest, parsePodManifest } from '../schema/index.ts';
import { json, refusal, text } from './answer.ts';
import type { Answer } from './answer.ts';
import type { RegisteredPod, Registry } from './registry.ts';

/** 128 bits. */
const TOKEN = /^[0-9a-f]{32,}$/;

export interface RegistrationServices {
  registry: Registry;
  /** Listens for a pod and gives the path of its socket. */
  open(uuid: string): Promise<string>;
  close(uuid: string): void;
}

export async function answerRegistration(request: { method: string; target: string; body: string }, services: RegistrationServices): Promise<Answer> {
  const url = URL.parse(request.target, 'http://localhost');
  const [, pods, uuid = '', app, ...more] = url?.pathname.split('/') ?? [];
  if (pods !== 'pods' || more.length > 0) return refusal(404, 'expected /pods/UUID or /pods/UUID/APP');
  if (!isUUID(uuid)) return refusal(400, 'UUID is missing or malformed');
  try {
    if (request.method === 'DELETE' && app === undefined) return unregister(uuid, services);
    if (request.method !== 'PUT') return refusal(405, 'expected PUT, or DELETE of a pod');
    if (app !== undefined) return registerImage({ uuid, app, body: request.body }, services.registry);
    return await registerPod({ uuid, token: url?.searchParams.get('token') ?? '', body: request.body }, services);
  } catch (error) {
    return refusal(400, error instanceof Error ? error.message : String(error));
  }
}

async function registerPod({ uuid, token, body }: { uuid: string; token: string; body: string }, { registry, open }: RegistrationServices): Promise<Answer> {
  if (!TOKEN.test(token)) return refusal(400, 'token: expected at least 32 hexadecimal digits');
  const other = registry.withToken(token);
  if (other !== undefined && other.uuid !== uuid) return refusal(409, 'another pod has this token');
  registry.add(describePod({ uuid, token, manifest: body, images: [] }));
  return json(JSON.stringify({ socket: await open(uuid) }));
}

/** Throws RktError BAD_INPUT for what is no manifest. */
export function describePod({ uuid, token, manifest, images }: { uuid: string; token: string; manifest: string; images: readonly (readonly [app: string, manifest: string])[] }): RegisteredPod {
  return {
    uuid,
    token,
    manifest: { text: manifest, content: parsePodManifest(manifest, 'the pod manifest') },
    images: new Map(images.map(([app, imageManifest]) => [app, { text: imageManifest, content: parseImageManifest(imageManifest, `the image manifest of app ${JSON.stringify(app)}`) }])),
  };
}

function registerImage({ uuid, app, body }: { uuid: string; app: string; body: string }, registry: Registry): Answer {
  const pod = registry.pod(uuid);
  if (pod === undefined) return refusal(404, 'Pod with given UUID not found');
  if (!isACName(app)) return refusal(400, 'app: expected the name of an app');
  pod.images.set(app, { text: body, content: parseImageManifest(body, 'the image manifest') });
  return text('');
}

function unregister(uuid: string, { registry, close }: RegistrationServices): Answer {
  if (registry.remove(uuid) === undefined) return refusal(404, 'pod not found');
  close(uuid);
  return text('');
}
