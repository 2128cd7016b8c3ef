/** Debian's docker-registry on this machine, and skopeo that pushes to it. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { MemoryRegistry } from './cosign.ts';
import { eventually } from './rkt.ts';
import { scratchDir } from './scratch-dir.ts';

export interface DockerRegistryOptions {
  /** Files in PEM form; without them it speaks plain http. */
  tls?: { cert: string; key: string };
  /** Section `auth` of its configuration. */
  auth?: Record<string, Record<string, string>>;
}

export interface DockerRegistry {
  /** `127.0.0.1:PORT`. */
  host: string;
}

/** It ends with the test. */
export async function startDockerRegistry(t: { teardown(action: () => unknown): void }, { tls, auth }: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const directory = scratchDir(t, 'docker-registry');
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const config = {
    version: '0.1',
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(directory, 'store') } },
    http: { addr: host, ...(tls === undefined ? {} : { tls: { certificate: tls.cert, key: tls.key } }) },
    ...(auth === undefined ? {} : { auth }),
  };
  const file = join(directory, 'config.yml');
  // JSON is YAML.
  writeFileSync(file, JSON.stringify(config));
  const child = spawn('docker-registry', ['serve', file], { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  await eventually('docker-registry listens', () => isListening(port));
  return { host };
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.end();
      resolve(true);
    }).on('error', () => resolve(false));
  });
}

/** Copies an image while this process goes on: what skopeo asks may be answered by it. */
export async function copyImage(...args: string[]): Promise<void> {
  await promisify(execFile)('skopeo', ['--insecure-policy', 'copy', '-q', ...args]);
}

/** As skopeo ends with a failure, its words are in the error. */
export function skopeo(args: readonly string[], env: Record<string, string> = {}): string {
  return execFileSync('skopeo', args, { env: { ...process.env, ...env }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Puts a manifest and the blobs it names into a repository (`http://HOST/v2/NAME`), without a tool that would change them. */
export async function pushArtifact(repository: string, manifest: object, { tag, blobs }: { tag: string; blobs: MemoryRegistry }): Promise<void> {
  const { config, layers } = manifest as { config: Named; layers: Named[] };
  for (const { digest, size } of [config, ...layers]) {
    const upload = await fetch(`${repository}/blobs/uploads/`, { method: 'POST' });
    const place = new URL(upload.headers.get('location') ?? '', repository);
    place.searchParams.set('digest', digest);
    await accepted(fetch(place, { method: 'PUT', headers: { 'content-type': 'application/octet-stream' }, body: Buffer.from(await blobs.access.getBlob({ digest, size }, size)) }));
  }
  await accepted(fetch(`${repository}/manifests/${tag}`, { method: 'PUT', headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' }, body: JSON.stringify({ mediaType: 'application/vnd.oci.image.manifest.v1+json', ...manifest }) }));
}

interface Named {
  digest: string;
  size: number;
}

async function accepted(answer: Promise<Response>): Promise<void> {
  const response = await answer;
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${await response.text()}`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
