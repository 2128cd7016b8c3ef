/** A stage1 image of shell scripts, to test stage0 without a virtual machine. */
import { writeFileSync } from 'node:fs';
import { aciManifest, makeTar } from './make-image.ts';
import type { TarMember } from './make-image.ts';

const ENTRYPOINTS = ['run', 'enter', 'stop', 'gc'] as const;
type Entrypoint = (typeof ENTRYPOINTS)[number];

export interface StubOptions {
  /** Bodies of the scripts; each begins in the pod directory. */
  scripts?: Partial<Record<Entrypoint, string>>;
  /** Annotation `interface-version`; null leaves it out. */
  interfaceVersion?: string | null;
  name?: string;
  /** Whether it wants images as disks, or as rkt's own interface has it, as directories. Default disk, which costs nothing. */
  rootfs?: 'disk' | 'directory';
}

/** Says how it was called, marks the pod as started, and ends when it is asked to or with STUB_EXIT. */
const RUN_SCRIPT = `
echo "argv: $*"
echo "argv0: $0"
echo "lock: $(readlink "/proc/$$/fd/$RKT_LOCK_FD")"
echo "start: $RKT_START_NS"
echo "pid: $$"
mkdir status
echo $$ > pid
[ -z "\${STUB_WAIT:-}" ] || { ln -s ready supervisor-status; while [ ! -e stop-now ]; do sleep 0.02; done; }
echo "\${STUB_EXIT:-0}" > status/hello
exit "\${STUB_EXIT:-0}"
`;

const SCRIPTS: Record<Entrypoint, string> = {
  run: RUN_SCRIPT,
  enter: 'echo "enter: $*"; echo "cwd: $(pwd)"; exit 5',
  stop: 'echo "stop: $*" >&2; touch stop-now',
  gc: 'echo "gc: $*" >&2; [ "$(pwd)" = "$(readlink -f .)" ]',
};

export function makeStubStage1(path: string, options: StubOptions = {}): string {
  const annotations = ENTRYPOINTS.map((name) => ({ name: `coreos.com/rkt/stage1/${name}`, value: `/${name}` }));
  if (options.interfaceVersion !== null) annotations.push({ name: 'coreos.com/rkt/stage1/interface-version', value: options.interfaceVersion ?? '6' });
  if (options.rootfs !== 'directory') annotations.push({ name: 'rkt/rootfs', value: 'disk' });
  const manifest = aciManifest({ manifest: { name: options.name ?? 'example.com/stage1-stub', app: undefined, annotations } });
  const members: TarMember[] = [{ path: 'manifest', content: JSON.stringify(manifest) }, { path: 'rootfs', type: 'directory' }];
  for (const name of ENTRYPOINTS) members.push({ path: `rootfs/${name}`, mode: 0o755, content: `#!/bin/sh\n${options.scripts?.[name] ?? SCRIPTS[name]}\n` });
  writeFileSync(path, makeTar(members));
  return path;
}

/** An image with one empty file, named `example.com/hello:1.0.0`. */
export function makeHelloImage(path: string, manifest: Record<string, unknown> = {}): string {
  const app = { exec: ['/bin/hello'], user: '0', group: '0' };
  const labels = [
    { name: 'version', value: '1.0.0' },
    { name: 'os', value: 'linux' },
    { name: 'arch', value: 'amd64' },
  ];
  const text = JSON.stringify({ acKind: 'ImageManifest', acVersion: '0.8.11', name: 'example.com/hello', labels, app, ...manifest });
  writeFileSync(path, makeTar([{ path: 'manifest', content: text }, { path: 'rootfs', type: 'directory' }, { path: 'rootfs/hello' }]));
  return path;
}
