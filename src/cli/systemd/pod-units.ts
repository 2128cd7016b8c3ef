/** Units that run a pod as a service. Pure. */
import type { PodManifest } from '../../schema/index.ts';
import { commandLine, inputText, literal, unitText, word } from './unit-file.ts';
import type { Section } from './unit-file.ts';

export interface PodService {
  /** Without `.service`. */
  unitName: string;
  description: string;
  /** Absolute path. */
  program: string;
  dataDir: string;
  /** Flags of rkt itself. */
  globals: readonly string[];
  /** From `run` on. */
  args: readonly string[];
  /** The standard input of rkt, where the arguments refer to it. */
  input?: string;
  /** Of this host: systemd opens them. */
  sockets: readonly ListeningSocket[];
  restart: string;
  slice?: string;
  /** Of the system, or of a user. */
  isSystem: boolean;
}

export interface ListeningSocket {
  protocol: 'tcp' | 'udp';
  /** `PORT` or `ADDRESS:PORT`. */
  address: string;
}

export interface UnitFile {
  name: string;
  text: string;
}

/** Time for images that have to be fetched. */
const START_TIMEOUT = '15min';
/** Longer than what the pod takes for itself: grace, kill, unmount. */
const STOP_TIMEOUT = '60s';
/** The app has ended by the TERM that systemd asked for. */
const ENDED_BY_TERM = '143';

export function podUnits(pod: PodService): UnitFile[] {
  const service = { name: `${pod.unitName}.service`, text: unitText(serviceSections(pod)) };
  return pod.sockets.length === 0 ? [service] : [service, { name: `${pod.unitName}.socket`, text: unitText(socketSections(pod)) }];
}

function serviceSections(pod: PodService): Section[] {
  const rkt = [pod.program, ...pod.globals];
  const socket = `${pod.unitName}.socket`;
  return [
    {
      name: 'Unit',
      settings: [
        ['Description', literal(pod.description)],
        ['Documentation', 'man:rkt-run(1)'],
        ['Wants', 'network-online.target'],
        ['After', 'network-online.target'],
        ...(pod.sockets.length === 0 ? [] : [['Requires', socket], ['After', socket]] as const),
        ['RequiresMountsFor', word(pod.dataDir)],
      ],
    },
    {
      name: 'Service',
      settings: [
        ['Type', 'notify'],
        ['NotifyAccess', 'main'],
        ...(pod.input === undefined ? [] : [['StandardInput', 'data'], ...inputText(pod.input).map((line) => ['StandardInputText', line] as const)] as const),
        ['ExecStart', commandLine([...rkt, ...pod.args])],
        ['ExecStopPost', `-${commandLine([...rkt, 'gc', '--mark-only'])}`],
        ['KillMode', 'mixed'],
        ['SuccessExitStatus', ENDED_BY_TERM],
        ['Restart', pod.restart],
        ['TimeoutStartSec', START_TIMEOUT],
        ['TimeoutStopSec', STOP_TIMEOUT],
        ...(pod.slice === undefined ? [] : [['Slice', pod.slice]] as const),
      ],
    },
    { name: 'Install', settings: [['WantedBy', pod.isSystem ? 'multi-user.target' : 'default.target']] },
  ];
}

function socketSections(pod: PodService): Section[] {
  return [
    { name: 'Unit', settings: [['Description', literal(`Sockets of ${pod.description}`)]] },
    { name: 'Socket', settings: pod.sockets.map(({ protocol, address }) => [protocol === 'tcp' ? 'ListenStream' : 'ListenDatagram', address] as const) },
    { name: 'Install', settings: [['WantedBy', 'sockets.target']] },
  ];
}

/** Ports of the host that lead to ports which apps expect to be activated on. */
export function activatedSockets(manifest: Pick<PodManifest, 'apps' | 'ports'>): ListeningSocket[] {
  const ports = manifest.apps.flatMap(({ app }) => app?.ports ?? []);
  return (manifest.ports ?? []).flatMap(({ name, hostPort, hostIP, podPort }) => {
    const port = podPort ?? ports.find((candidate) => candidate.name === name);
    if (port?.socketActivated !== true) return [];
    const protocol = port.protocol.toLowerCase() === 'udp' ? 'udp' : 'tcp';
    return Array.from({ length: port.count }, (_, index): ListeningSocket => ({ protocol, address: hostAddress(hostIP, hostPort + index) }));
  });
}

function hostAddress(ip: string | undefined, port: number): string {
  if (ip === undefined || ip === '') return String(port);
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
