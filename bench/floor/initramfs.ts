import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildInitramfs } from '../../initramfs/build.ts';

/** Initramfs whose PID 1 resets the machine at once (compiled by musl-gcc, Debian package musl-tools). */
export function floorInitramfs(): Uint8Array {
  const work = mkdtempSync(join(tmpdir(), 'rkt-floor-'));
  try {
    const init = join(work, 'init');
    execFileSync('musl-gcc', ['-Os', '-static', '-s', '-o', init, join(import.meta.dirname, 'init.c')]);
    return buildInitramfs({ agent: readFileSync(init) });
  } finally {
    rmSync(work, { recursive: true });
  }
}
