/** The pods that the service knows, by UUID and by token. */
import type { ImageManifest, PodManifest } from '../schema/index.ts';

export interface Document<T> {
  /** As it was registered: what apps get to read. */
  text: string;
  content: T;
}

export interface RegisteredPod {
  readonly uuid: string;
  /** Authenticates the pod's requests; a secret of its apps. */
  readonly token: string;
  readonly manifest: Document<PodManifest>;
  /** Image manifests, by app. */
  readonly images: Map<string, Document<ImageManifest>>;
}

export class Registry {
  readonly #pods = new Map<string, RegisteredPod>();
  readonly #tokens = new Map<string, RegisteredPod>();

  /** Replaces what was known of the pod. */
  add(pod: RegisteredPod): void {
    this.remove(pod.uuid);
    this.#pods.set(pod.uuid, pod);
    this.#tokens.set(pod.token, pod);
  }

  remove(uuid: string): RegisteredPod | undefined {
    const pod = this.#pods.get(uuid);
    if (pod === undefined) return undefined;
    this.#pods.delete(uuid);
    this.#tokens.delete(pod.token);
    return pod;
  }

  pod(uuid: string): RegisteredPod | undefined {
    return this.#pods.get(uuid);
  }

  withToken(token: string): RegisteredPod | undefined {
    return this.#tokens.get(token);
  }
}
