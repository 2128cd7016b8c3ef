/** From flags that were given back to arguments, which mean the same in any directory. */
import { resolve } from 'node:path';
import type { AnyFlag, GivenFlag } from './flag.ts';
import type { ImageArgument } from './image-arguments.ts';
import * as flags from './table.ts';

/** Where rkt looks and what it tells do not change the pod. */
const NOT_KEPT: readonly AnyFlag[] = [flags.debug, flags.dir, flags.timing];

/** Whether the flag says how a pod is started; what it is made of stands in its manifest. */
export function isStartFlag(flag: AnyFlag): boolean {
  return !NOT_KEPT.includes(flag) && (flags.START_FLAGS.includes(flag) || flags.GLOBAL_FLAGS.includes(flag));
}

export function flagArguments(given: readonly GivenFlag[], cwd: string): string[] {
  return given.map(({ flag, text }) => `--${flag.name}=${isPath(flag, text) ? resolve(cwd, text) : text}`);
}

/** One image with its flags and arguments. */
export function imageArguments({ image, flags: given, args }: ImageArgument, options: { cwd: string; isLast: boolean }): string[] {
  const own = [image, ...flagArguments(given.given(), options.cwd)];
  if (args.length === 0) return own;
  return [...own, '--', ...args, ...(options.isLast ? [] : ['---'])];
}

function isPath({ name, placeholder }: AnyFlag, text: string): boolean {
  // A name in the directory of stage1 images, and what may be a URL.
  if (name === flags.stage1FromDir.name || /^[a-z]+:\/\//.test(text)) return false;
  return placeholder === 'FILE' || placeholder === 'DIR';
}
