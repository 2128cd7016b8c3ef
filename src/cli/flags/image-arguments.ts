/**
 * The command line of `run`, `prepare` and `fetch`:
 * `IMAGE1 [app flags] [-- arg1 arg2] [---] IMAGE2 [app flags] [-- args] …`, flags of the pod anywhere before a `--`.
 */
import { FlagValues, readFlags, usage } from './flag.ts';
import type { AnyFlag, FlagSink } from './flag.ts';

export interface ImageArgument {
  /** As typed. */
  image: string;
  flags: FlagValues;
  /** What came between `--` and `---`. */
  args: string[];
}

export interface ImageCommandLine {
  /** Global flags, flags of the pod, and `--mount` before the first image. */
  pod: FlagValues;
  images: ImageArgument[];
}

export function readImageArguments(argv: readonly string[], flags: readonly AnyFlag[], options: { appArguments: boolean }): ImageCommandLine {
  const pod = new FlagValues();
  const images: ImageArgument[] = [];
  const withArguments = new Set<ImageArgument>();

  const sink: FlagSink = (flag, value, text) => {
    const current = images.at(-1);
    if (flag.scope === 'app' && current === undefined) throw usage(`--${flag.name} must follow an image`);
    const target = current !== undefined && (flag.scope === 'app' || flag.scope === 'pod-or-app') ? current.flags : pod;
    if (flag.once === true && target.has(flag)) throw usage(`--${flag.name} specified multiple times for the same image`);
    target.add(flag, value, text);
  };

  let index = 0;
  while (index < argv.length) {
    const { next, terminated } = readFlags(argv, index, { flags, sink });
    if (terminated) {
      index = readAppArguments(argv, next);
      continue;
    }
    const argument = argv[next];
    // A stray "---" ends nothing and is ignored.
    if (argument !== undefined && argument !== '---') images.push({ image: argument, flags: new FlagValues(), args: [] });
    index = next + 1;
  }
  return { pod, images };

  function readAppArguments(all: readonly string[], start: number): number {
    if (!options.appArguments) throw usage('app arguments unsupported');
    const current = images.at(-1);
    if (current === undefined) throw usage('an image is required before any app arguments');
    if (withArguments.has(current)) throw usage('only one set of app arguments allowed per image');
    withArguments.add(current);
    const end = all.indexOf('---', start);
    current.args.push(...all.slice(start, end === -1 ? undefined : end));
    return end === -1 ? all.length : end + 1;
  }
}

