/** Where an app's streams go, as annotations of the app in the pod manifest say it. Pure; the same for command line, monitor and agent. */
export const STREAM_ANNOTATION_PREFIX = 'coreos.com/rkt/stage2/';

export const STDIN_MODES = ['null', 'stream', 'tty'] as const;
export const OUTPUT_MODES = ['log', 'null', 'stream', 'tty'] as const;

export interface StreamModes {
  /** `stream`: what attached clients write; `tty`: a terminal that clients attach to. */
  stdin: (typeof STDIN_MODES)[number];
  /** `log`: kept, and shown on rkt's own output; `stream`: kept, shown only to attached clients. */
  stdout: (typeof OUTPUT_MODES)[number];
  stderr: (typeof OUTPUT_MODES)[number];
}

export function isStreamAnnotation(name: string): boolean {
  return ['stdin', 'stdout', 'stderr'].some((stream) => name === STREAM_ANNOTATION_PREFIX + stream);
}

export class StreamModeError extends Error {
  override readonly name = 'StreamModeError';
}

/**
 * @param annotations those of an app in a pod manifest, as parsed
 * @throws StreamModeError that names the annotation
 */
export function streamModes(annotations: unknown): StreamModes {
  const given = new Map<string, string>();
  for (const entry of Array.isArray(annotations) ? (annotations as { name?: unknown; value?: unknown }[]) : []) {
    const { name, value } = entry ?? {};
    if (typeof name === 'string' && typeof value === 'string' && name.startsWith(STREAM_ANNOTATION_PREFIX)) given.set(name.slice(STREAM_ANNOTATION_PREFIX.length), value);
  }
  const hasTerminal = [...given.values()].includes('tty');
  const mode = <M extends string>(stream: string, modes: readonly M[], usual: M): M => {
    const text = given.get(stream) ?? usual;
    const found = modes.find((candidate) => candidate === text);
    if (found === undefined) throw new StreamModeError(`annotation ${STREAM_ANNOTATION_PREFIX}${stream}: expected ${modes.join(', ')}, found "${text}"`);
    if (hasTerminal && found !== 'tty' && found !== 'null') throw new StreamModeError(`annotation ${STREAM_ANNOTATION_PREFIX}${stream}: "${text}" cannot be beside a "tty": an app has a terminal or streams`);
    return found;
  };
  return {
    stdin: mode('stdin', STDIN_MODES, hasTerminal ? 'tty' : 'null'),
    stdout: mode('stdout', OUTPUT_MODES, hasTerminal ? 'tty' : 'log'),
    stderr: mode('stderr', OUTPUT_MODES, hasTerminal ? 'tty' : 'log'),
  };
}

export function usesTerminal({ stdin, stdout, stderr }: StreamModes): boolean {
  return stdin === 'tty' || stdout === 'tty' || stderr === 'tty';
}
