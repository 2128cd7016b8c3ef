/**
 * Tells systemd-machined of the pod, where there is one: `machinectl` then lists it as `rkt-UUID`. In a service the pod stays in
 * the unit it is in; elsewhere machined makes a scope for it, which goes with the pod (org.freedesktop.machine1(5)).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** What D-Bus starts machined by: no such file, no machined. */
const ACTIVATION_FILE = '/usr/share/dbus-1/system-services/org.freedesktop.machine1.service';
const BUS_SOCKET = '/run/dbus/system_bus_socket';
const DESTINATION = ['org.freedesktop.machine1', '/org/freedesktop/machine1', 'org.freedesktop.machine1.Manager'];
/** machined may have to be started first. */
const TIMEOUT_MS = 3_000;
const UUID_BYTES = 16;

export interface Machine {
  uuid: string;
  class: 'vm' | 'container';
  /** Of the monitor. */
  leaderPid: number;
  /** Absolute. */
  rootDirectory: string;
  log(message: string): void;
}

/** A look at two files where there is no machined. Nothing depends on it: failures are only told to `log`. */
export function registerMachine(machine: Machine): void {
  if (!existsSync(ACTIVATION_FILE) || !existsSync(BUS_SOCKET)) return;
  callMachined(machine, isInService(readFileSync('/proc/self/cgroup', 'utf8')));
}

/** @param keepsUnit it stays in the unit that it is in */
export function callMachined({ uuid, class: kind, leaderPid, rootDirectory, log }: Machine, keepsUnit: boolean): void {
  const id = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  const machine = [`rkt-${uuid}`, String(UUID_BYTES), ...[...id].map(String), 'rkt', kind, String(leaderPid), rootDirectory];
  const method = keepsUnit ? ['RegisterMachine', 'sayssus', ...machine] : ['CreateMachine', 'sayssusa(sv)', ...machine, '0'];
  const { error, status, stderr } = spawnSync('busctl', ['--system', '--quiet', 'call', ...DESTINATION, ...method], { encoding: 'utf8', timeout: TIMEOUT_MS });
  if (error !== undefined) log(`the pod is not registered with systemd-machined: ${error.message}`);
  else if (status !== 0) log(`the pod is not registered with systemd-machined: ${stderr.trim()}`);
}

/** @param cgroups /proc/self/cgroup */
export function isInService(cgroups: string): boolean {
  return cgroups.split('\n').some((line) => {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    // The unified hierarchy, or that of systemd beside version 1. A user's shell is in a scope below user@UID.service.
    return (controllers === '' || controllers === 'name=systemd') && path.endsWith('.service');
  });
}
