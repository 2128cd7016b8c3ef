/**
 * What apps can ask (appc spec/ace.md, "App Container Metadata Service"), below `/TOKEN/acMetadata/v1/`:
 *
 *   GET  pod/annotations[/NAME]  pod/manifest  pod/uuid
 *   GET  apps/APP/annotations[/NAME]  apps/APP/image/manifest  apps/APP/image/id
 *   POST pod/hmac/sign    content
 *   POST pod/hmac/verify  content, uuid, signature
 */
import { isUUID } from '../pod/index.ts';
import type { Annotation } from '../schema/index.ts';
import { ascii, json, refusal, text } from './answer.ts';
import type { Answer } from './answer.ts';
import type { Identity } from './identity.ts';
import type { RegisteredPod, Registry } from './registry.ts';

export interface PublicRequest {
  method: string;
  /** With the query, as it stands in the request. */
  target: string;
  /** Of a POST: `application/x-www-form-urlencoded`. */
  body: string;
}

export interface PublicServices {
  registry: Registry;
  identity: Identity;
}

const PREFIX = ['acMetadata', 'v1'];
const NOT_FOUND = refusal(404, 'not found');

/** @param onlyPod where the connection tells which pod is speaking: no other pod's token is good there */
export function answerPod(request: PublicRequest, { registry, identity }: PublicServices, onlyPod: string | undefined): Answer {
  const parts = pathParts(request.target);
  if (parts === undefined) return refusal(400, 'malformed path');
  const [token = '', ...rest] = parts;
  const pod = registry.withToken(token);
  if (pod === undefined || (onlyPod !== undefined && pod.uuid !== onlyPod)) return refusal(401, 'this is not the token of a registered pod');
  if (PREFIX.some((part, index) => rest[index] !== part)) return NOT_FOUND;
  const path = rest.slice(PREFIX.length);
  if (path[0] === 'pod' && path[1] === 'hmac' && path.length === 3) return identityAnswer(request, path[2] ?? '', { pod, identity });
  if (request.method !== 'GET') return refusal(405, 'only GET is known here');
  switch (path[0]) {
    case 'pod':
      return podAnswer(pod, path.slice(1));
    case 'apps':
      return appAnswer(pod, path[1] ?? '', path.slice(2));
    default:
      return NOT_FOUND;
  }
}

/** Undefined for what is no path, or escaped wrongly. */
function pathParts(target: string): string[] | undefined {
  const [path = ''] = target.split('?');
  if (!path.startsWith('/')) return undefined;
  try {
    return path.slice(1).split('/').map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

function podAnswer({ uuid, manifest }: RegisteredPod, [what, ...more]: readonly string[]): Answer {
  if (what === 'annotations') return annotationsAnswer(manifest.content.annotations ?? [], more);
  if (more.length > 0) return NOT_FOUND;
  if (what === 'manifest') return json(manifest.text);
  return what === 'uuid' ? ascii(uuid) : NOT_FOUND;
}

function appAnswer({ manifest, images }: RegisteredPod, name: string, [what, ...more]: readonly string[]): Answer {
  const image = images.get(name);
  const app = manifest.content.apps.find((candidate) => candidate.name === name);
  if (image === undefined) return refusal(404, `there is no app ${JSON.stringify(name)} in this pod`);
  if (what === 'annotations') return annotationsAnswer(merge(image.content.annotations ?? [], app?.annotations ?? []), more);
  if (what !== 'image' || more.length !== 1) return NOT_FOUND;
  if (more[0] === 'manifest') return json(image.text);
  return more[0] === 'id' && app !== undefined ? ascii(app.image.id) : NOT_FOUND;
}

/** Names of annotations may contain slashes. */
function annotationsAnswer(annotations: readonly Annotation[], name: readonly string[]): Answer {
  if (name.length === 0) return json(JSON.stringify(annotations));
  const found = annotations.find((annotation) => annotation.name === name.join('/'));
  return found === undefined ? refusal(404, `there is no annotation ${JSON.stringify(name.join('/'))}`) : text(found.value);
}

function merge(ofImage: readonly Annotation[], ofPod: readonly Annotation[]): Annotation[] {
  const merged = new Map([...ofImage, ...ofPod].map(({ name, value }) => [name, value]));
  return [...merged].map(([name, value]) => ({ name, value }));
}

function identityAnswer({ method, body }: PublicRequest, what: string, { pod, identity }: { pod: RegisteredPod; identity: Identity }): Answer {
  if (what !== 'sign' && what !== 'verify') return NOT_FOUND;
  if (method !== 'POST') return refusal(405, 'only POST is known here');
  const form = new URLSearchParams(body);
  const content = form.get('content') ?? '';
  if (content === '') return refusal(400, 'content: expected a form field that is not empty');
  if (what === 'sign') return ascii(identity.sign(pod.uuid, content));
  const uuid = (form.get('uuid') ?? '').toLowerCase();
  if (!isUUID(uuid)) return refusal(400, 'uuid: expected the UUID of the pod that has signed');
  return identity.verify(uuid, content, form.get('signature') ?? '') ? ascii('') : refusal(403, 'the signature is not good');
}
