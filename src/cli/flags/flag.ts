/**
 * What a flag is, and how arguments are read: GNU long options in the way of Go's pflag. Each flag is declared once;
 * parsing, help and completion all read the same declaration.
 */
import { RktError } from '../../error.ts';

/** What a flag changes. App flags belong to the image before them; `pod-or-app` ones to the pod when no image is before. */
export type FlagScope = 'global' | 'command' | 'pod' | 'app' | 'pod-or-app';

export interface FlagSpec<T> {
  /** Without the dashes. */
  readonly name: string;
  readonly scope: FlagScope;
  /** How the value is called in help (`FILE`); absent for switches. */
  readonly placeholder?: string;
  readonly help: string;
  /** One letter that stands for the whole flag, a switch (`-a`). */
  readonly short?: string;
  /** Shown in help. */
  readonly defaultText?: string;
  /** The value when the flag stands alone; without it a value has to follow. */
  readonly bareValue?: string;
  /** May not be given twice for one image. */
  readonly once?: boolean;
  readonly hidden?: boolean;
  /** Throws an Error that says what was expected. */
  parse(text: string): T;
}

/** A flag of some value type, where only its name, help and the act of parsing matter. */
export type AnyFlag = FlagSpec<unknown>;

/** A flag as it was typed, to be typed again. */
export interface GivenFlag {
  flag: AnyFlag;
  text: string;
  value: unknown;
}

/** The flags that were given, in order, read back by their declarations. */
export class FlagValues {
  readonly #given: GivenFlag[] = [];
  readonly #values = new Map<AnyFlag, unknown[]>();

  add(flag: AnyFlag, value: unknown, text: string): void {
    this.#given.push({ flag, text, value });
    const earlier = this.#values.get(flag);
    if (earlier === undefined) this.#values.set(flag, [value]);
    else earlier.push(value);
  }

  given(): readonly GivenFlag[] {
    return this.#given;
  }

  has(flag: AnyFlag): boolean {
    return this.#values.has(flag);
  }

  /** Every value given, first to last. */
  all<T>(flag: FlagSpec<T>): readonly T[] {
    // Only `parse` of this very flag has produced them.
    return (this.#values.get(flag) ?? []) as T[];
  }

  /** The last value given. */
  last<T>(flag: FlagSpec<T>): T | undefined {
    return this.all(flag).at(-1);
  }
}

/** Called for each flag as it is read. */
export type FlagSink = (flag: AnyFlag, value: unknown, text: string) => void;

interface Reading {
  flags: readonly AnyFlag[];
  sink: FlagSink;
}

/** Thrown when `--help` is met: not an error, the command prints its help. */
export class HelpRequested extends Error {
  override readonly name = 'HelpRequested';
}

/**
 * Reads flags from `argv[start]` on, up to the first argument that is none. Gives the index of that argument, or of
 * the one behind a `--`, which is told by `terminated`. Throws RktError USAGE, HelpRequested.
 */
export function readFlags(argv: readonly string[], start: number, reading: Reading): { next: number; terminated: boolean } {
  let index = start;
  while (index < argv.length) {
    const argument = argv[index] ?? '';
    if (argument === '--') return { next: index + 1, terminated: true };
    // "---" is a separator of the image grammar, "-" a name for standard input.
    if (!argument.startsWith('-') || argument === '-' || argument === '---') break;
    index += readFlag(argv, index, reading);
  }
  return { next: index, terminated: false };
}

/** Reads one flag and its value; gives the number of arguments that took. */
function readFlag(argv: readonly string[], index: number, reading: Reading): number {
  const argument = longForm(argv[index] ?? '', reading.flags);
  if (argument === '--help' || argument === '-h') throw new HelpRequested();
  if (!argument.startsWith('--')) throw usage(`unknown shorthand flag: "${argument.slice(1, 2)}" in ${argument}`);
  const equals = argument.indexOf('=');
  const name = argument.slice(2, equals === -1 ? undefined : equals);
  const flag = reading.flags.find((candidate) => candidate.name === name);
  if (name === '') throw usage(`bad flag syntax: ${argument}`);
  if (flag === undefined) throw usage(`unknown flag: --${name}`);
  const inline = equals === -1 ? flag.bareValue : argument.slice(equals + 1);
  if (inline !== undefined) {
    reading.sink(flag, parseValue(flag, inline), inline);
    return 1;
  }
  const value = argv[index + 1];
  if (value === undefined) throw usage(`flag needs an argument: --${name}`);
  reading.sink(flag, parseValue(flag, value), value);
  return 2;
}

function longForm(argument: string, flags: readonly AnyFlag[]): string {
  const flag = flags.find(({ short }) => short !== undefined && argument === `-${short}`);
  return flag === undefined ? argument : `--${flag.name}`;
}

function parseValue(flag: AnyFlag, text: string): unknown {
  try {
    return flag.parse(text);
  } catch (error) {
    if (error instanceof RktError) throw error;
    throw invalidValue(flag, text, error instanceof Error ? error.message : String(error));
  }
}

export function invalidValue(flag: AnyFlag, text: string, reason: string): RktError {
  return usage(`invalid argument ${JSON.stringify(text)} for "--${flag.name}" flag: ${reason}`);
}

export function usage(message: string): RktError {
  return new RktError('USAGE', message);
}

/**
 * Reads a whole command line of flags and arguments. Behind `--` everything is an argument; without `interspersed`
 * everything behind the first argument is, too.
 */
export function readArguments(argv: readonly string[], flags: readonly AnyFlag[], options: { interspersed: boolean }): { values: FlagValues; positional: string[] } {
  const values = new FlagValues();
  const positional: string[] = [];
  const sink: FlagSink = (flag, value, text) => values.add(flag, value, text);
  let index = 0;
  while (index < argv.length) {
    const { next, terminated } = readFlags(argv, index, { flags, sink });
    if (terminated || !options.interspersed) {
      positional.push(...argv.slice(next));
      break;
    }
    const argument = argv[next];
    if (argument !== undefined) positional.push(argument);
    index = next + 1;
  }
  return { values, positional };
}
