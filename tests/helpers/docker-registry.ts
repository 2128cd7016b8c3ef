/** Debian's docker-registry on this machine, over plain http, and skopeo that pushes to it. */
import { execFileSync, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MemoryRegistry } from './cosign.ts';
import { eventually } from './rkt.ts';
import { scratchDir } from './scratch-dir.ts';

export interface DockerRegistry {
  /** `localhost:PORT`. */
  host: string;
}

export async function startDockerRegistry(t: { teardown(action: () => unknown): void }): Promise<DockerRegistry> {
  const directory = scratchDir(t, 'docker-registry');
  const port = await freePort();
  const config = join(directory, 'config.yml');
  writeFileSync(config, `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${directory}/store}}\nhttp: {addr: 127.0.0.1:${port}}\n`);
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  await eventually('docker-registry answers', () => fetch(`http://127.0.0.1:${port}/v2/`).then((response) => response.ok, () => false));
  return { host: `localhost:${port}` };
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
