import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { RktError } from '../../error.ts';
import { isErrno } from '../../linux/errno.ts';
import { currentPath, openPodByName, pathInPod, POD_FILES, readPodManifest, readPodManifestText } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { sanitizeACName } from '../../schema/names.ts';
import type { PodManifest } from '../../schema/index.ts';
import { readMachineOptions, readStage1Manifest } from '../../stage0/run.ts';
import { DEFAULT_STAGE1_NAME } from '../../stage0/stage1-image.ts';
import { openStore } from '../../store/index.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import type { AnyFlag } from '../flags/flag.ts';
import type { ImageCommandLine } from '../flags/image-arguments.ts';
import { flagArguments, imageArguments } from '../flags/rebuild.ts';
import * as flags from '../flags/table.ts';
import { fetchImages, pullOptions, signatureOf } from '../images.ts';
import { checkPodFlags } from '../pod-options.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';
import { activatedSockets, podUnits } from '../systemd/pod-units.ts';
import type { PodService, UnitFile } from '../systemd/pod-units.ts';

/** What is told about the pod rather than about its units. */
type Described = Pick<PodService, 'unitName' | 'description' | 'args' | 'sockets'> & { input?: string };

const OWN_FLAGS: readonly AnyFlag[] = [flags.unitName, flags.unitFiles, flags.unitRestart, flags.unitSlice];
const UNIT_NAME = /^[\w:.@-]{1,240}$/;
const FILE_MODE = 0o644;

export async function run(commandLine: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  using pod = podOf(commandLine, context);
  const described = pod === undefined ? await describeImages(commandLine, context) : describePod(pod);
  const own = commandLine.pod;
  const unitName = own.last(flags.unitName) ?? described.unitName;
  if (!UNIT_NAME.test(unitName)) throw usage(`--unit-name: ${JSON.stringify(unitName)} cannot be the name of a unit`);
  const slice = own.last(flags.unitSlice);
  const units = podUnits({
    ...described,
    unitName,
    program: join(context.installDir, 'bin/rkt'),
    dataDir: context.dataDir(),
    globals: [`--dir=${context.dataDir()}`, ...flagArguments(context.globals.given().filter(({ flag }) => flag !== flags.dir), context.cwd)],
    restart: own.last(flags.unitRestart) ?? 'on-failure',
    ...(slice === undefined ? {} : { slice }),
    isSystem: context.uid === 0,
  });
  if (own.last(flags.unitFiles) === true) return success({ kind: 'lines', lines: units.map((unit) => writeUnit(unit, context.cwd)) });
  return success({ kind: 'lines', lines: [units.map(({ name, text }) => `# ${name}\n${text}`).join('\n').trimEnd()] });
}

/** Gives the path. */
function writeUnit({ name, text }: UnitFile, directory: string): string {
  const path = join(directory, name);
  try {
    writeFileSync(path, text, { mode: FILE_MODE });
  } catch (cause) {
    throw new RktError('IO', `cannot write the unit ${path}`, { cause });
  }
  return path;
}

/** A single argument that names a pod is that pod. */
function podOf({ images }: ImageCommandLine, context: CommandContext): PodHandle | undefined {
  const [only, second] = images;
  if (only === undefined || second !== undefined || !/^[0-9a-f][0-9a-f-]*$/.test(only.image)) return undefined;
  try {
    return openPodByName(context.dataDir(), only.image);
  } catch (error) {
    if (error instanceof RktError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

/** The very same pod again: its manifest, which names images by ID, and the flags with which it was started. */
function describePod(pod: PodHandle): Described {
  const manifest = readPodManifest(pod);
  const startFlags = readStartFlags(pod);
  rejectInteractive(startFlags.some((argument) => argument === `--${flags.interactive.name}=true`));
  // Said again by the flags with which the pod was started, these count.
  const made = machineFlags(pod).filter((argument) => !startFlags.some((other) => nameOf(other) === nameOf(argument)));
  const name = manifest.apps[0]?.name ?? 'pod';
  return {
    unitName: `rkt-${name}`,
    description: `rkt pod ${manifest.apps.map((app) => app.name).join(', ')}`,
    args: ['run', ...startFlags, ...made, ...stage1Flags(pod), `--${flags.podManifest.name}=/dev/stdin`],
    input: JSON.stringify(JSON.parse(readPodManifestText(pod)), undefined, 1),
    sockets: activatedSockets(manifest),
  };
}

function nameOf(argument: string): string {
  return argument.slice(0, argument.indexOf('='));
}

function readStartFlags(pod: PodHandle): string[] {
  try {
    return JSON.parse(readFileSync(pathInPod(pod, POD_FILES.startFlags), 'utf8')) as string[];
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw new RktError('IO', `cannot read ${currentPath(pod)}/${POD_FILES.startFlags}`, { cause: error });
  }
}

/** What `prepare` or `run` was told about the machine. */
function machineFlags(pod: PodHandle): string[] {
  const { accelerator, kernel, cpus, memoryMib, tpm, sealed } = readMachineOptions(pod);
  const said: [AnyFlag, unknown][] = [
    [flags.accelerator, accelerator],
    [flags.kernel, kernel],
    [flags.cpus, cpus],
    [flags.mem, memoryMib],
    [flags.tpm, tpm],
    [flags.sealed, sealed],
  ];
  return said.flatMap(([flag, value]) => (value === undefined ? [] : [`--${flag.name}=${String(value)}`]));
}

/** Nothing for the stage1 that comes with rkt: it is to be as new as rkt is. */
function stage1Flags(pod: PodHandle): string[] {
  const { name } = readStage1Manifest(pod);
  if (name === DEFAULT_STAGE1_NAME) return [];
  return [`--${flags.stage1Name.name}=${name}`];
}

async function describeImages(commandLine: ImageCommandLine, context: CommandContext): Promise<Described> {
  checkPodFlags(commandLine);
  rejectInteractive(commandLine.pod.last(flags.interactive) === true);
  const passedOn = commandLine.pod.given().filter(({ flag }) => !OWN_FLAGS.includes(flag) && !flags.GLOBAL_FLAGS.includes(flag));
  const images = commandLine.images.map((argument) => ({ ...argument, image: absoluteImage(argument.image, context.cwd) }));
  const names = images.map(({ image, flags: given }) => given.last(flags.name) ?? nameFromReference(image));
  return {
    unitName: `rkt-${names[0] ?? 'pod'}`,
    description: `rkt pod ${names.join(', ')}`.trim(),
    args: ['run', ...flagArguments(passedOn, context.cwd), ...images.flatMap((argument, index) => imageArguments(argument, { cwd: context.cwd, isLast: index === images.length - 1 }))],
    sockets: activatedSockets(await portsOf(commandLine, context)),
  };
}

function rejectInteractive(isInteractive: boolean): void {
  if (isInteractive) throw usage('a service has no terminal: --interactive cannot be used in a unit');
}

/** A path is told from other images by there being such a file. */
function absoluteImage(image: string, cwd: string): string {
  const [, prefix = '', path = image] = /^((?:oci|docker-archive):)(.*)$/.exec(image) ?? [];
  return existsSync(resolve(cwd, path)) ? prefix + resolve(cwd, path) : image;
}

/** `docker://registry.example.com/web:v1` → `web` */
function nameFromReference(image: string): string {
  const last = image.slice(image.lastIndexOf('/') + 1);
  return sanitizeACName(last.replace(/[@:].*$/, '').replace(/\.(aci|oci|tar)$/, '')) ?? 'pod';
}

/** Which ports apps expect to be activated on is known from their images, which are fetched for that. */
async function portsOf({ pod, images }: ImageCommandLine, context: CommandContext): Promise<Pick<PodManifest, 'apps' | 'ports'>> {
  const ports = [...pod.all(flags.port)];
  if (ports.length === 0) return { apps: [] };
  const store = openStore(context.dataDir());
  const fetched = await fetchImages(images.map(({ image, flags: given }) => ({ text: image, ...signatureOf(given) })), { store, context, ...pullOptions(pod, context, 'new') });
  return { ports, apps: fetched.map(({ id, manifest: { app } }) => ({ name: 'app', image: { id }, ...(app === undefined ? {} : { app }) })) };
}
