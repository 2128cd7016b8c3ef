/** OCI and Docker image configs as appc image manifests, by the rules of docker2aci. */
import { posix } from 'node:path';
import { APPC_VERSION, checkValue, imageManifest, isEnvironmentName, PRIMARY_GROUP } from '../schema/appc.ts';
import type { Annotation, App, EnvironmentVariable, ImageManifest, Label, MountPoint, Port } from '../schema/appc.ts';
import { sanitizeACIdentifier, sanitizeACName } from '../schema/names.ts';
import type { OciConfig, OciRunConfig } from '../schema/oci.ts';
import { appcPlatform } from '../schema/platform.ts';
import { parseSignal, STOP_SIGNAL_ANNOTATION } from '../wire/app-settings.ts';
import { parseDockerReference } from './docker-reference.ts';
import type { DockerReference } from './docker-reference.ts';
import type { LayeredImage } from './layered-image.ts';

/** What cannot be said in an appc manifest is left out and told to `warn`. */
export function convertImage(image: LayeredImage, warn: (message: string) => void = () => undefined): ImageManifest {
  const { config, naming } = image;
  const reference = naming.reference === undefined ? undefined : parseDockerReference(naming.reference);
  // A tag alone, as OCI layouts have it, also reads as a name: a name has a slash or a tag behind it.
  const fullName = naming.reference !== undefined && /[/:]/.test(naming.reference) ? reference : undefined;
  const version = fullName === undefined ? naming.reference : fullName.tag;
  const manifest: ImageManifest = {
    acKind: 'ImageManifest',
    acVersion: APPC_VERSION,
    name: imageName(fullName, naming.fileName),
    labels: [...(version === undefined ? [] : [{ name: 'version', value: version }]), ...platformLabels(config)],
    app: convertApp(config.config ?? {}, { warn, origin: image.origin }),
    annotations: [...annotationsOf(image, fullName), ...stopSignalOf(config.config ?? {}, { warn, origin: image.origin })],
  };
  return checkValue(manifest, imageManifest, { origin: image.origin, code: 'BAD_IMAGE' });
}

function imageName(reference: DockerReference | undefined, fileName: string): string {
  const wanted = reference === undefined ? fileName : `${reference.registry}/${reference.repository}`;
  return sanitizeACIdentifier(wanted) ?? 'image';
}

function platformLabels(config: OciConfig): Label[] {
  const platform = appcPlatform(config);
  return platform === undefined ? [] : [{ name: 'os', value: platform.os }, { name: 'arch', value: platform.arch }];
}

/** Names are docker2aci's. */
function annotationsOf(image: LayeredImage, reference: DockerReference | undefined): Annotation[] {
  const { config } = image;
  const run = config.config ?? {};
  const pairs: [string, string | undefined][] = [
    ['author', config.author],
    ['created', config.created],
    ['appc.io/docker/originalname', image.naming.reference],
    ['appc.io/docker/registryurl', reference?.registry],
    ['appc.io/docker/repository', reference?.repository],
    ['appc.io/docker/tag', reference?.tag],
    ['appc.io/docker/imageid', image.configDigest],
    ['appc.io/docker/manifesthash', image.manifestDigest],
    ['appc.io/docker/entrypoint', jsonUnlessEmpty(run.Entrypoint)],
    ['appc.io/docker/cmd', jsonUnlessEmpty(run.Cmd)],
    [PRIMARY_GROUP, namesGroup(run) ? undefined : 'true'],
    ['appc.io/docker/labels', run.Labels === undefined ? undefined : jsonUnlessEmpty(Object.entries(run.Labels).sort(byFirst), Object.fromEntries)],
  ];
  return pairs.flatMap(([name, value]) => (value === undefined || value === '' ? [] : [{ name, value }]));
}

function stopSignalOf({ StopSignal: signal = '' }: OciRunConfig, { warn, origin }: Complaints): Annotation[] {
  if (signal === '') return [];
  try {
    parseSignal(signal);
    return [{ name: STOP_SIGNAL_ANNOTATION, value: signal }];
  } catch (error) {
    warn(`${origin}: the stop signal is left out: ${error instanceof Error ? error.message : String(error)}`);
    return [];
  }
}

function jsonUnlessEmpty<T>(list: readonly T[] | undefined, shape: (list: readonly T[]) => unknown = (same) => same): string | undefined {
  return list === undefined || list.length === 0 ? undefined : JSON.stringify(shape(list));
}

/** `USER:GROUP` */
function namesGroup({ User = '' }: OciRunConfig): boolean {
  return (User.split(':')[1] ?? '') !== '';
}

interface Complaints {
  warn: (message: string) => void;
  origin: string;
}

function convertApp(run: OciRunConfig, complaints: Complaints): App {
  const [user = '', group = ''] = (run.User ?? '').split(':');
  const workingDirectory = run.WorkingDir === undefined || run.WorkingDir === '' ? undefined : posix.resolve('/', run.WorkingDir);
  return {
    exec: [...(run.Entrypoint ?? []), ...(run.Cmd ?? [])],
    user: user || '0',
    // Without a look into the image the user's own group is not known; docker2aci takes the user's name or number. See PRIMARY_GROUP.
    group: group || user || '0',
    ...(workingDirectory === undefined ? {} : { workingDirectory }),
    environment: convertEnvironment(run.Env ?? [], complaints),
    mountPoints: convertVolumes(Object.keys(run.Volumes ?? {}), complaints),
    ports: convertPorts(Object.keys(run.ExposedPorts ?? {}), complaints),
  };
}

/** A later variable replaces an earlier one of the same name. */
function convertEnvironment(env: readonly string[], { warn, origin }: Complaints): EnvironmentVariable[] {
  const variables = new Map<string, string>();
  for (const text of env) {
    const equals = text.indexOf('=');
    const name = equals === -1 ? text : text.slice(0, equals);
    if (equals === -1 || !isEnvironmentName(name)) {
      warn(`${origin}: environment variable ${JSON.stringify(name)} is left out: ${equals === -1 ? 'it has no value' : 'not a valid name'}`);
      continue;
    }
    variables.set(name, text.slice(equals + 1));
  }
  return [...variables].map(([name, value]) => ({ name, value }));
}

function convertVolumes(paths: readonly string[], { warn, origin }: Complaints): MountPoint[] {
  const used = new Map<string, number>();
  return [...paths].sort().flatMap((path) => {
    const name = path === '' ? undefined : sanitizeACName(posix.join('volume', path));
    if (name === undefined) {
      warn(`${origin}: volume ${JSON.stringify(path)} is left out: its path makes no name`);
      return [];
    }
    const count = used.get(name) ?? 0;
    used.set(name, count + 1);
    return [{ name: count === 0 ? name : `${name}-${count}`, path: posix.resolve('/', path) }];
  });
}

/** `80/tcp`, `53/udp`, `8000-8010/tcp`, `80`. */
function convertPorts(specifications: readonly string[], { warn, origin }: Complaints): Port[] {
  const ports = specifications.flatMap((specification) => {
    const parts = /^(\d+)(?:-(\d+))?(?:\/([a-z]+))?$/.exec(specification.toLowerCase());
    const [, first = '', last = first, protocol = 'tcp'] = parts ?? [];
    const [from, to] = [Number(first), Number(last)];
    const name = sanitizeACName(specification);
    if (parts === null || name === undefined || from < 1 || to < from || to > 65535) {
      warn(`${origin}: exposed port ${JSON.stringify(specification)} is left out: expected something like 80/tcp`);
      return [];
    }
    return [{ name, protocol, port: from, count: to - from + 1, socketActivated: false }];
  });
  return ports.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function byFirst(a: readonly [string, string], b: readonly [string, string]): number {
  return a[0] < b[0] ? -1 : 1;
}
