import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A directory that goes away with the test. `t` is a tap test. */
export function scratchDir(t: { teardown(action: () => void): void }, name: string): string {
  const path = mkdtempSync(join(tmpdir(), `rkt-test-${name}-`));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
