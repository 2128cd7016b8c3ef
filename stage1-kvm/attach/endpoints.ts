/**
 * Where clients attach to an app: `iottymux/APP/sock-NAME` in the pod directory, a socket for each of its streams, and beside
 * them the file `endpoints` that names them, in rkt's format.
 */
import { O_DIRECTORY, O_PATH } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { makeDirectory, open, removeFile } from '../../runtime/linux/files.ts';
import { readJson, writeJson } from '../../runtime/linux/json-file.ts';
import { connectUnix, listenUnix } from '../../runtime/linux/sockets.ts';
import { servePodSocket } from '../pod-socket.ts';
import { ENDPOINT_NAMES, type EndpointName } from './endpoint-names.ts';

const DIRECTORY = 'iottymux';
const DIRECTORY_MODE = 0o750;
const VERSION = 1;

const directoryOf = (app: string): string => `${DIRECTORY}/${app}`;
const socketName = (endpoint: EndpointName): string => `sock-${endpoint}`;

export interface ServedEndpoint {
  name: EndpointName;
  /** Gets a connected non-blocking socket, and owns it. */
  onClient(fd: number): void;
}

/** Returns what ends it. */
export function serveEndpoints({ app, process }: { app: string; process: number }, endpoints: readonly ServedEndpoint[]): () => void {
  const directory = directoryOf(app);
  makeDirectory(DIRECTORY, DIRECTORY_MODE);
  makeDirectory(directory, DIRECTORY_MODE);
  const stops = endpoints.map(({ name, onClient }) =>
    servePodSocket(`${directory}/${socketName(name)}`, onClient, () => throughDirectory(directory, (path) => listenUnix(`${path}/${socketName(name)}`))));
  const targets = endpoints.map(({ name }) => ({ name, domain: 'unix', address: `${directory}/${socketName(name)}` }));
  writeJson(`${directory}/endpoints`, { version: VERSION, targets, process });
  return () => {
    removeFile(`${directory}/endpoints`);
    for (const stop of stops) stop();
  };
}

export interface AppEndpoints {
  names: EndpointName[];
  /** Of the app's main process, for what concerns its terminal. */
  process: number;
}

/** Null: the app has none (any more). */
export function readEndpoints(app: string): AppEndpoints | null {
  let file: { version?: unknown; targets?: unknown; process?: unknown };
  try {
    file = readJson(`${directoryOf(app)}/endpoints`) as typeof file;
  } catch {
    return null;
  }
  if (file.version !== VERSION || !Array.isArray(file.targets)) return null;
  const given = (file.targets as { name?: unknown }[]).map(({ name }) => name);
  return { names: ENDPOINT_NAMES.filter((name) => given.includes(name)), process: Number(file.process) };
}

/** A non-blocking stream. @throws SysError */
export function connectEndpoint(app: string, endpoint: EndpointName): number {
  return throughDirectory(directoryOf(app), (path) => connectUnix(`${path}/${socketName(endpoint)}`));
}

/** Names of apps can be longer than paths of sockets. */
function throughDirectory<T>(directory: string, use: (path: string) => T): T {
  const fd = open(directory, O_PATH | O_DIRECTORY);
  try {
    return use(`/proc/self/fd/${fd}`);
  } finally {
    close(fd);
  }
}
