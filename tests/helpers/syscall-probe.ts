/** The program of syscall-probe-main.ts: static, so that it runs in any image. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';
import type { TarMember } from './make-image.ts';

export async function syscallProbe(path: string): Promise<TarMember> {
  const { output } = await buildProgram({ entry: join(import.meta.dirname, 'syscall-probe-main.ts'), output: join(buildCache(), 'syscall-probe') });
  return { path, mode: 0o755, content: readFileSync(output) };
}
