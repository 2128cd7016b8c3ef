/** A pod that exists on paper only: everything of it that is measured. */
import type { PredictionInput } from '../../src/attest/predict.ts';
import { concatBytes, encodeLogHeader, eventOf, hostEvents, launchMeasurements, type MeasuredEvent, type Measurement, type Phase } from '../../src/tpm/index.ts';

export const SAMPLE_UUID = '8a3f2f10-1111-4222-8333-444455556666';
/** Must never be seen in a log. */
export const SAMPLE_SECRET = 'hunter2';

const digestOf = (digit: string): string => digit.repeat(64);

export function samplePod(): PredictionInput {
  const app = (name: string, id: string): { name: string; image: { id: string }; app: { exec: string[]; user: string; group: string; environment: { name: string; value: string }[] } } =>
    ({ name, image: { id }, app: { exec: [`/bin/${name}`, '--verbose'], user: '0', group: '0', environment: [{ name: 'PASSWORD', value: SAMPLE_SECRET }, { name: 'LANG', value: 'C' }] } });
  return {
    host: {
      vmm: { name: 'qemu-system-x86_64', sha256: digestOf('1') },
      firmware: [{ name: 'qboot.rom', sha256: digestOf('2') }],
      configuration: { accelerator: 'tcg', board: 'microvm', cpus: 1, memoryMiB: 256 },
      kernelSha256: digestOf('4'),
      initramfsSha256: digestOf('5'),
      commandLine: 'quiet console=ttyS0',
      sealed: true,
      insecureOptions: ['seccomp'],
      manifest: { acKind: 'PodManifest', acVersion: '0.8.11', apps: [app('web', `sha512-${digestOf('a')}`), app('db', `sha512-${digestOf('b')}`)] },
      uuid: SAMPLE_UUID,
    },
    disks: [{ app: 'web', imageId: `sha512-${digestOf('a')}`, rootHash: digestOf('c') }, { app: 'db', imageId: `sha512-${digestOf('b')}`, rootHash: digestOf('d') }],
  };
}

export interface LogOptions {
  mutations?: readonly Measurement[];
  phases?: readonly Phase[];
  /** Changes the events before they become a log. */
  edit?(events: MeasuredEvent[]): MeasuredEvent[];
}

/** The log of a pod of that kind, as host and agent would have written it. */
export function podLog({ host, disks }: PredictionInput, { mutations = [], phases = ['enter', 'ready'], edit = (events) => events }: LogOptions = {}): { events: MeasuredEvent[]; bytes: Uint8Array } {
  const launch: Measurement[] = [...launchMeasurements({ manifest: host.manifest, disks, policy: host }), { kind: 'launch', error: null }];
  const [first, ...later] = phases.map((phase) => eventOf({ kind: 'phase', phase }));
  const events = edit([
    ...hostEvents(host), ...(first === undefined ? [] : [first]), ...launch.map((measurement) => eventOf(measurement)), ...later, ...mutations.map((measurement) => eventOf(measurement)),
  ]);
  return { events, bytes: concatBytes(encodeLogHeader(), ...events.map(({ record }) => record)) };
}
