/** Writes the manual pages to dist/man/man1: `man -M dist/man rkt-run`. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COMMANDS, GROUPS } from '../src/cli/command-table.ts';
import { manPages } from '../src/cli/man-page.ts';
import { RKT_VERSION } from '../src/cli/version.ts';

const OUTPUT_DIRECTORY = join(import.meta.dirname, '../dist/man/man1');

export function buildMan(): void {
  rmSync(OUTPUT_DIRECTORY, { recursive: true, force: true });
  mkdirSync(OUTPUT_DIRECTORY, { recursive: true });
  for (const { fileName, text } of manPages({ all: COMMANDS, groups: GROUPS }, RKT_VERSION)) writeFileSync(join(OUTPUT_DIRECTORY, fileName), text);
}

if (import.meta.main) buildMan();
