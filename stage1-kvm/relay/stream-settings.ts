/** What the pod manifest says about the streams of its apps. */
import { kubernetesLogPath } from '../../src/wire/kubernetes-log.ts';
import { streamModes, StreamModeError, usesTerminal, type StreamModes } from '../../src/wire/stream-modes.ts';
import type { Stdio, TerminalSize } from '../../src/wire/messages.ts';
import { Stage1Error } from '../error.ts';

export interface AppStreamSettings {
  name: string;
  modes: StreamModes;
  /** Where Kubernetes wants the log; null: in the pod directory. */
  kubernetesLogPath: string | null;
}

/** Of a terminal that nobody looks at yet. */
const UNATTENDED_SIZE: TerminalSize = { rows: 24, cols: 80 };

/** @param manifest the pod manifest file @throws Stage1Error */
export function readStreamSettings(manifest: string): AppStreamSettings[] {
  const pod = JSON.parse(manifest) as { annotations?: unknown; apps?: unknown };
  return (Array.isArray(pod.apps) ? (pod.apps as unknown[]) : []).map((app) => appStreamSettings(app, pod.annotations));
}

/** Of an app that is added to a pod. @param app its entry as a text @param manifest that of the pod @throws Stage1Error */
export function addedStreamSettings(app: string, manifest: string): AppStreamSettings {
  return appStreamSettings(JSON.parse(app), (JSON.parse(manifest) as { annotations?: unknown }).annotations);
}

/**
 * @param runtimeApp an entry of the pod manifest's `apps`
 * @param podAnnotations those of the pod
 * @throws Stage1Error
 */
function appStreamSettings(runtimeApp: unknown, podAnnotations: unknown): AppStreamSettings {
  const { name, annotations } = runtimeApp as { name?: unknown; annotations?: unknown };
  try {
    return { name: String(name), modes: streamModes(annotations), kubernetesLogPath: kubernetesLogPath(annotations, podAnnotations) };
  } catch (error) {
    if (error instanceof StreamModeError) throw new Stage1Error(`pod: app "${String(name)}": ${error.message}`);
    throw error;
  }
}

/** How the guest connects them, when the person who runs the pod has not taken the app over with --interactive. */
export function stdioOfModes(modes: StreamModes): Stdio {
  const silent = { ...(modes.stdout === 'null' ? { stdout: false } : {}), ...(modes.stderr === 'null' ? { stderr: false } : {}) };
  if (!usesTerminal(modes)) return { kind: 'streams', stdin: modes.stdin === 'stream', ...silent };
  return { kind: 'tty', size: UNATTENDED_SIZE, ...(modes.stdin === 'null' ? { stdin: false } : {}), ...silent };
}
