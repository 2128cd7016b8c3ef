/** A program of this machine with the libraries it needs, for images. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { TarMember } from './make-image.ts';

/** Each file under the path at which the program looks for it, with the directories above. */
export function hostProgramMembers(program: string): TarMember[] {
  const libraries = [...execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)].map(([, path = '']) => path);
  const paths = [program, ...new Set(libraries)].map((path) => path.slice(1));
  const directories = new Set(paths.flatMap(directoriesAbove));
  return [
    ...[...directories].sort().map((path): TarMember => ({ path: `${path}/`, type: 'directory' })),
    ...paths.map((path): TarMember => ({ path, mode: 0o755, content: readFileSync(`/${path}`) })),
  ];
}

function directoriesAbove(path: string): string[] {
  const directory = dirname(path);
  return directory === '.' ? [] : [...directoriesAbove(directory), directory];
}
