/** Where Kubernetes wants the log of an app: annotations of rkt's CRI shim, of the pod and of the app. Pure. */
import { StreamModeError } from './stream-modes.ts';

const LOG_MODE = 'coreos.com/rkt/experiment/logmode';
const LOG_DIRECTORY = 'coreos.com/rkt/experiment/kubernetes-log-dir';
const LOG_PATH = 'coreos.com/rkt/experiment/kubernetes-log-path';

/**
 * Null: in the pod directory.
 * @param annotations those of the app
 * @param podAnnotations those of the pod
 * @throws StreamModeError that names the annotation
 */
export function kubernetesLogPath(annotations: unknown, podAnnotations: unknown): string | null {
  const mode = annotation(podAnnotations, LOG_MODE);
  if (mode === null) return null;
  if (mode !== 'k8s-plain') throw new StreamModeError(`annotation ${LOG_MODE} of the pod: expected k8s-plain, found "${mode}"`);
  const path = annotation(annotations, LOG_PATH);
  if (path === null) return null;
  const directory = annotation(podAnnotations, LOG_DIRECTORY);
  if (directory === null || !directory.startsWith('/')) throw new StreamModeError(`annotation ${LOG_DIRECTORY} of the pod: expected an absolute path`);
  // An image may have said it: the file is below the directory, whatever it says.
  if (path === '' || path.includes('\0') || path.split('/').includes('..')) throw new StreamModeError(`annotation ${LOG_PATH}: expected a path below the log directory, found "${path}"`);
  return `${directory}/${path}`;
}

function annotation(annotations: unknown, wanted: string): string | null {
  const list = Array.isArray(annotations) ? (annotations as { name?: unknown; value?: unknown }[]) : [];
  const found = list.find((entry) => entry?.name === wanted);
  return typeof found?.value === 'string' ? found.value : null;
}
