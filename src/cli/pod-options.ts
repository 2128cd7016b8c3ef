/** From flags to what stage0 wants to know. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { RktError } from '../error.ts';
import type { FetchedImage } from '../image/index.ts';
import { isEnvironmentName } from '../schema/appc.ts';
import type { EnvironmentVariable, Isolator } from '../schema/index.ts';
import type { AppRequest, PodRequest } from '../stage0/pod-manifest.ts';
import type { MachineOptions } from '../stage0/prepare.ts';
import { SEALED_LIVE_ROOTS } from '../stage0/run.ts';
import type { Stage1Choice } from '../stage0/stage1-image.ts';
import { STREAM_ANNOTATION_PREFIX } from '../wire/stream-modes.ts';
import type { CommandContext } from './context.ts';
import { inheritedEnvironment } from './environment.ts';
import { usage } from './flags/flag.ts';
import type { FlagValues } from './flags/flag.ts';
import type { ImageArgument, ImageCommandLine } from './flags/image-arguments.ts';
import * as flags from './flags/table.ts';

/** Throws RktError USAGE for flags that exclude each other. */
export function checkPodFlags({ pod, images }: ImageCommandLine): void {
  if (pod.last(flags.privateUsers) === true) throw new RktError('UNSUPPORTED', 'flag --private-users cannot be used with a kvm stage1');
  if (pod.has(flags.podManifest)) {
    const excluded = [flags.inheritEnv, flags.setEnv, flags.setEnvFile, flags.volume, flags.mount, flags.port, flags.storeOnly, flags.noStore];
    if (images.length > 0 || excluded.some((flag) => pod.has(flag))) throw usage('conflicting flags set with --pod-manifest (see --help)');
  } else if (images.length === 0) {
    throw usage('must provide at least one image or specify the pod manifest');
  }
}

export function stage1Choice(pod: FlagValues): Stage1Choice {
  const given = flags.STAGE1_FLAGS.filter((flag) => pod.has(flag));
  const [flag, other] = given;
  if (flag === undefined) return { kind: 'default' };
  if (other !== undefined) throw usage(`flags --${flag.name} and --${other.name} are mutually exclusive`);
  if (pod.all(flag).length > 1) throw usage(`--${flag.name} already used`);
  const value = pod.last(flag) ?? '';
  switch (flag) {
    case flags.stage1Url:
      return { kind: 'url', url: value };
    case flags.stage1Path:
      return { kind: 'path', path: value };
    case flags.stage1Name:
      return { kind: 'name', name: value };
    case flags.stage1Hash:
      return { kind: 'hash', hash: value };
    default:
      return { kind: 'from-dir', file: value };
  }
}

export function podRequest({ pod, images }: ImageCommandLine, fetched: readonly FetchedImage[], context: CommandContext): PodRequest {
  const explicit = pod.all(flags.setEnv);
  rejectRepeated(explicit);
  const fromFiles = pod.all(flags.setEnvFile).flatMap((file) => readEnvironmentFile(resolve(context.cwd, file)));
  return {
    apps: images.map((argument, index) => appRequest(argument, fetched[index])),
    volumes: uniqueVolumes(pod),
    ports: pod.all(flags.port),
    mounts: pod.all(flags.mount),
    inheritedEnvironment: pod.last(flags.inheritEnv) === true ? variables(inheritedEnvironment()) : [],
    environment: [...fromFiles, ...explicit],
  };
}

export function appRequest({ image: text, flags: given, args }: ImageArgument, image: FetchedImage | undefined): AppRequest {
  if (image === undefined) throw new RktError('INTERNAL', `image ${text} was not fetched`);
  rejectRepeated(given.all(flags.environment));
  const capabilities = [flags.capsRetain, flags.capsRemove, flags.capRetain, flags.capRemove].filter((flag) => given.has(flag));
  if (new Set(capabilities.map((flag) => flag.name.replace('caps-', 'cap-'))).size > 1) throw usage('only one of --caps-retain or --caps-remove can be specified per image');
  return {
    imageID: image.id,
    imageManifest: image.manifest,
    verifiedBy: image.verifiedBy ?? [],
    args,
    exec: given.last(flags.exec),
    name: given.last(flags.name),
    user: given.last(flags.user),
    group: given.last(flags.group),
    supplementaryGIDs: given.last(flags.supplementaryGids),
    workingDirectory: given.last(flags.workingDirectory),
    readOnlyRootFS: given.last(flags.readonlyRootfs),
    mounts: given.all(flags.mount),
    environment: given.all(flags.environment),
    annotations: [...given.all(flags.annotation), ...flags.SETTING_FLAGS.flatMap((flag) => given.last(flag) ?? []), ...streamAnnotations(given)],
    userAnnotations: given.all(flags.userAnnotation),
    userLabels: given.all(flags.userLabel),
    isolators: isolatorsOf(given),
  };
}

function isolatorsOf(given: FlagValues): Isolator[] {
  const isolators: Isolator[] = flags.ISOLATOR_FLAGS.flatMap((flag) => given.last(flag) ?? []);
  const limits = Object.fromEntries(given.all(flags.ulimit));
  if (given.has(flags.ulimit)) isolators.push({ name: 'coreos.com/rkt/rlimits', value: limits });
  const sysctls = Object.fromEntries(given.all(flags.sysctl).map(({ name, value }) => [name, value]));
  if (given.has(flags.sysctl)) isolators.push({ name: 'os/unix/sysctl', value: sysctls });
  return isolators;
}

function streamAnnotations(given: FlagValues): AppRequest['annotations'] {
  return flags.STREAM_FLAGS.flatMap((flag) => {
    const value = given.last(flag);
    return value === undefined ? [] : [{ name: `${STREAM_ANNOTATION_PREFIX}${flag.name}`, value }];
  });
}

export function machineOptions(values: FlagValues, context: CommandContext): MachineOptions {
  const kernel = values.last(flags.kernel);
  const chosen: MachineOptions = {
    accelerator: values.last(flags.accelerator),
    kernel: kernel === undefined ? undefined : resolve(context.cwd, kernel),
    cpus: values.last(flags.cpus),
    memoryMib: values.last(flags.mem),
    giveBackMemory: values.last(flags.giveBackMemory),
    tpm: values.last(flags.tpm),
    sealed: values.last(flags.sealed),
    rootfs: values.last(flags.rootfs),
  };
  if (chosen.sealed === true && chosen.rootfs === 'virtiofs') throw usage(SEALED_LIVE_ROOTS);
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
}

function uniqueVolumes(pod: FlagValues): PodRequest['volumes'] {
  const volumes = pod.all(flags.volume);
  if (new Set(volumes.map(({ name }) => name)).size < volumes.length) throw usage('duplicate volume name');
  return volumes;
}

function rejectRepeated(list: readonly EnvironmentVariable[]): void {
  const seen = new Set<string>();
  for (const { name } of list) {
    if (seen.has(name)) throw usage(`key ${JSON.stringify(name)} already set`);
    seen.add(name);
  }
}

function variables(environment: Record<string, string>): EnvironmentVariable[] {
  return Object.entries(environment)
    .filter(([name]) => isEnvironmentName(name))
    .map(([name, value]) => ({ name, value }));
}

/** `KEY=VALUE` lines; empty lines and those that begin with `#` or `;` say nothing. */
function readEnvironmentFile(path: string): EnvironmentVariable[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new RktError('IO', `cannot read the environment file ${path}`, { cause });
  }
  const result: EnvironmentVariable[] = [];
  for (const [index, line] of text.split('\n').map((part) => part.trim()).entries()) {
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const equals = line.indexOf('=');
    const name = line.slice(0, Math.max(equals, 0));
    if (!isEnvironmentName(name)) throw new RktError('BAD_INPUT', `${path}: line ${index + 1}: environment variable must be specified as name=value`);
    result.push({ name, value: line.slice(equals + 1) });
  }
  rejectRepeated(result);
  return result;
}
