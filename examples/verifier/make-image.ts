/** Makes an image with what the example's pod needs, from programs of this machine: busybox, curl and fetch-secret.sh. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostProgramMembers } from '../../tests/helpers/host-program.ts';
import { busyboxMembers, makeOciLayout } from '../../tests/helpers/make-image.ts';

/** An OCI image layout. Returns its path. */
export function makeClientImage(path: string): string {
  const script = { path: 'bin/fetch-secret.sh', mode: 0o755, content: readFileSync(join(import.meta.dirname, 'fetch-secret.sh')) };
  return makeOciLayout(path, { layers: [busyboxMembers(), hostProgramMembers('/usr/bin/curl'), [script]] });
}

if (import.meta.main) {
  const path = 'dist/example/client.oci';
  console.log(existsSync(path) ? path : makeClientImage(path));
}
