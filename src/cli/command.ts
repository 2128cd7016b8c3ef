/** What a command is. Its code is loaded only when it is called. */
import type { CommandContext } from './context.ts';
import type { AnyFlag, FlagValues } from './flags/flag.ts';
import type { ImageCommandLine } from './flags/image-arguments.ts';
import type { Outcome } from './reporter.ts';

export interface CommandSet {
  readonly all: readonly CommandSpec[];
  /** First words of commands with two, and what they are about. */
  readonly groups: Readonly<Record<string, string>>;
}

export interface ArgumentInput {
  values: FlagValues;
  positional: string[];
}

export interface ArgumentModule {
  run(input: ArgumentInput, context: CommandContext): Promise<Outcome> | Outcome;
}

export interface ImageModule {
  run(input: ImageCommandLine, context: CommandContext): Promise<Outcome> | Outcome;
}

interface CommandBase {
  /** As typed; `image list` for a command of a group. */
  readonly name: string;
  /** Behind the name in help. */
  readonly usage: string;
  readonly summary: string;
  readonly description?: string;
  readonly flags: readonly AnyFlag[];
  /** Works on pods: for root, or in a data directory of one's own. */
  readonly needsRoot: boolean;
}

export type CommandSpec = CommandBase &
  (
    | { readonly grammar: 'arguments'; /** False: everything behind the first argument belongs to it. */ readonly interspersed: boolean; load(): Promise<ArgumentModule> }
    | { readonly grammar: 'images'; readonly appArguments: boolean; load(): Promise<ImageModule> }
  );
