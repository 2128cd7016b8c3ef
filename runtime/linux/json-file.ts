/** JSON files, replaced as a whole: a reader sees the old or the new content. */
import { readText, rename, writeFile, type ReadOptions } from './files.ts';

/** SyntaxError names the file. */
export function readJson(path: string, options: ReadOptions = {}): unknown {
  const text = readText(path, options);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function writeJson(path: string, value: unknown, mode = 0o644): void {
  writeFile(`${path}.new`, `${JSON.stringify(value)}\n`, { mode });
  rename(`${path}.new`, path);
}
