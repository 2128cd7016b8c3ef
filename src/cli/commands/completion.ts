import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { RktError } from '../../error.ts';
import { namesOfHost } from '../completion/names.ts';
import { complete } from '../completion/words.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** What the shells evaluate, below the directory of rkt. Each asks `rkt completion words -- WORD…`. */
const SCRIPTS: Readonly<Record<string, string>> = { bash: 'shell-completion/rkt.bash', zsh: 'shell-completion/_rkt', fish: 'shell-completion/rkt.fish' };

export async function run({ positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const [shell, ...words] = positional;
  if (shell === 'words') return success({ kind: 'lines', lines: await answer(words, context) });
  const script = SCRIPTS[shell ?? ''];
  if (words.length > 0 || script === undefined) throw usage(`expected one of: ${Object.keys(SCRIPTS).join(', ')}`);
  const path = join(context.installDir, script);
  try {
    return success({ kind: 'bytes', bytes: readFileSync(path) });
  } catch (cause) {
    throw new RktError('NOT_FOUND', `cannot read ${path}`, { cause });
  }
}

/**
 * For the scripts: a line `words`, `files BEHIND` or `directories BEHIND` (paths fit, too, behind that beginning of the word),
 * then words and what they are, one in a line, a tab between.
 */
async function answer(words: readonly string[], context: CommandContext): Promise<string[]> {
  const { candidates, paths } = complete(words, context.commands, await namesOfHost(dataDirOf(words, context), context));
  const directive = paths === undefined ? 'words' : `${paths.kind} ${paths.behind}`;
  return [directive, ...candidates.filter(({ word }) => !/[\t\n]/.test(word)).map(({ word, help }) => `${word}\t${help}`)];
}

/** The command line that is being typed may be about another one. */
function dataDirOf(words: readonly string[], context: CommandContext): string {
  const prefix = `--${flags.dir.name}=`;
  const given = words.findLast((word) => word.startsWith(prefix));
  return given === undefined ? context.dataDir() : resolve(context.cwd, given.slice(prefix.length));
}
