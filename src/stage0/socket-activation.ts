/**
 * Sockets that a supervisor has opened for this process (sd_listen_fds(3)), and the ports of the pod they lead to: stage1 takes
 * connections from them and carries each into the guest.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { RktError } from '../error.ts';
import { portMappings } from '../network/port-mappings.ts';
import type { PortMapping } from '../network/port-mappings.ts';
import type { PodManifest, Port } from '../schema/index.ts';

const FIRST_DESCRIPTOR = 3;
/** State of a socket that listens in /proc/net/tcp (include/net/tcp_states.h). */
const LISTENING = '0A';

export interface PassedSocket {
  fd: number;
  /** Of this host. */
  port: number;
}

/** Whether this process was started with sockets for it. */
export function hasPassedSockets(): boolean {
  return process.env['LISTEN_PID'] === String(process.pid) && Number(process.env['LISTEN_FDS']) > 0;
}

/** Throws RktError USAGE for one that is no listening TCP socket. */
export function passedSockets(): PassedSocket[] {
  if (!hasPassedSockets()) return [];
  const listening = listeningPorts();
  return Array.from({ length: Number(process.env['LISTEN_FDS']) }, (_, index) => {
    const fd = FIRST_DESCRIPTOR + index;
    const port = listening.get(socketInode(fd));
    if (port === undefined) throw new RktError('USAGE', `socket activation: descriptor ${fd} is not a listening TCP socket`, { hint: 'ListenStream=PORT makes one' });
    return { fd, port };
  });
}

function socketInode(fd: number): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? '';
  } catch {
    return '';
  }
}

/** Ports by the inode of their socket: this process's own network namespace. */
function listeningPorts(): Map<string, number> {
  const ports = new Map<string, number>();
  for (const table of ['/proc/self/net/tcp', '/proc/self/net/tcp6']) {
    for (const line of readTable(table)) {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
      if (state === LISTENING) ports.set(inode, Number.parseInt(local.slice(local.lastIndexOf(':') + 1), 16));
    }
  }
  return ports;
}

function readTable(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').slice(1);
  } catch {
    return []; // no IPv6
  }
}

export interface ActivatedPort {
  fd: number;
  /** In the guest. */
  port: number;
}

export interface DividedPorts {
  activated: ActivatedPort[];
  /** For the network to forward. */
  others: PortMapping[];
}

/** Which mapping takes which socket. Throws RktError USAGE for a socket that leads nowhere. */
export function dividePorts(manifest: PodManifest, sockets: readonly PassedSocket[], warn: (message: string) => void): DividedPorts {
  const mappings = portMappings(manifest);
  const isFor = (mapping: PortMapping, socket: PassedSocket): boolean => mapping.protocol === 'tcp' && mapping.hostPort === socket.port;
  const activated = sockets.map((socket): ActivatedPort => {
    const mapping = mappings.find((candidate) => isFor(candidate, socket));
    if (mapping !== undefined) return { fd: socket.fd, port: mapping.containerPort };
    const port = ownPort(manifest, socket);
    if (port === undefined) throw new RktError('USAGE', `socket activation: the socket on port ${socket.port} (descriptor ${socket.fd}) leads to no port of an app`, { hint: `--port=NAME:${socket.port} names one` });
    warn(`warning: no --port option for socket-activated port ${JSON.stringify(port.name)}, assuming port ${port.port} as specified in the manifest`);
    return { fd: socket.fd, port: port.port };
  });
  return { activated, others: mappings.filter((mapping) => !sockets.some((socket) => isFor(mapping, socket))) };
}

function ownPort(manifest: PodManifest, socket: PassedSocket): Port | undefined {
  return manifest.apps.flatMap(({ app }) => app?.ports ?? []).find((port) => port.socketActivated === true && port.port === socket.port);
}
