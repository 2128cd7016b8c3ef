/** What `rkt app sandbox` asks for: a pod without apps. */
import { RktError } from '../error.ts';
import type { PodHandle } from '../pod/index.ts';
import { APPC_VERSION, checkValue, podManifest } from '../schema/index.ts';
import type { ImageManifest, PodManifest } from '../schema/index.ts';
import { portMappings } from '../network/port-mappings.ts';
import { MUTABLE_ANNOTATION } from '../stage0/mutable-annotation.ts';
import type { RunRequest } from '../stage0/run.ts';
import { checkMutable, checkStart } from '../stage0/stage1-check.ts';
import type { CommandContext } from './context.ts';
import { usage } from './flags/flag.ts';
import type { FlagValues } from './flags/flag.ts';
import * as flags from './flags/table.ts';
import { layOutPod } from './make-pod.ts';
import { runRequest } from './run-options.ts';

/** Nothing is known of the apps that will come. It is taken from the host only as far as the guest uses it. */
const DEFAULT_MEMORY_MIB = 1024;

/** Throws RktError USAGE. */
export async function sandboxRequest(values: FlagValues, context: CommandContext): Promise<RunRequest> {
  if (values.last(flags.sealed) === true) throw usage('a sealed pod cannot be changed: an app sandbox excludes --sealed');
  const request = await runRequest(values, context);
  return { ...request, machine: { ...request.machine, memoryMib: request.machine.memoryMib ?? DEFAULT_MEMORY_MIB } };
}

/** The pod is in `prepare`, locked by this process. Throws RktError, also when its stage1 cannot add apps. */
export function layOutSandbox(values: FlagValues, context: CommandContext, request: RunRequest): Promise<PodHandle> {
  const accept = (stage1: ImageManifest): void => {
    checkMutable(stage1);
    checkStart(stage1, request, (warning) => context.reporter.note(warning));
  };
  return layOutPod(values, context, { manifest: sandboxManifest(values), machine: request.machine, accept });
}

/** Throws RktError USAGE, BAD_INPUT. */
function sandboxManifest(values: FlagValues): PodManifest {
  const annotations = values.all(flags.podAnnotation);
  if (annotations.some(({ name }) => name === MUTABLE_ANNOTATION)) throw new RktError('USAGE', `annotation ${MUTABLE_ANNOTATION} is set by rkt itself`);
  const manifest: PodManifest = {
    acVersion: APPC_VERSION,
    acKind: 'PodManifest',
    apps: [],
    annotations: [{ name: MUTABLE_ANNOTATION, value: 'true' }, ...annotations],
    ...(values.has(flags.sandboxPort) ? { ports: [...values.all(flags.sandboxPort)] } : {}),
    ...asFields('userAnnotations', values.all(flags.podUserAnnotation)),
    ...asFields('userLabels', values.all(flags.podUserLabel)),
  };
  portMappings(manifest);
  return checkValue(manifest, podManifest, { origin: 'the pod of this command line' });
}

function asFields(field: 'userAnnotations' | 'userLabels', pairs: readonly { name: string; value: string }[]): Partial<PodManifest> {
  return pairs.length === 0 ? {} : { [field]: Object.fromEntries(pairs.map(({ name, value }) => [name, value])) };
}
