/** From a command line to a command, its outcome and an exit status. */
import { RktError } from '../error.ts';
import { COMMANDS, GROUPS } from './command-table.ts';
import type { CommandSpec } from './command.ts';
import { createContext } from './context.ts';
import type { Surroundings } from './context.ts';
import { FlagValues, HelpRequested, readArguments, readFlags, usage } from './flags/flag.ts';
import { readImageArguments } from './flags/image-arguments.ts';
import * as flags from './flags/table.ts';
import { isOwnDirectory } from './own-directories.ts';
import { createReporter, FAILURE_STATUS } from './reporter.ts';
import type { Outcome, Reporter } from './reporter.ts';

const MISSING_COMMAND_STATUS = 2;

export interface DispatchOptions extends Surroundings {
  /** For tests; the real ones are standard output and standard error. */
  write?(fd: 1 | 2, text: string): void;
}

type Subject = CommandSpec | { group: string };

interface Addressed {
  subject: Subject | undefined;
  globals: FlagValues;
  rest: readonly string[];
  help: boolean;
}

/** Runs the command line (without the program's own name) and gives the exit status. */
export async function dispatch(argv: readonly string[], options: DispatchOptions): Promise<number> {
  const reporterOf = (command: string, globals?: FlagValues): Reporter =>
    createReporter({ command, debug: globals?.last(flags.debug) ?? false, ...(options.write === undefined ? {} : { write: options.write }) });
  let addressed: Addressed;
  try {
    addressed = address(argv);
  } catch (error) {
    reporterOf('rkt').error(error);
    return FAILURE_STATUS;
  }
  const { subject, globals } = addressed;
  if (addressed.help) return await printHelp(reporterOf('rkt'), subject);
  if (subject === undefined || 'group' in subject) {
    const reporter = reporterOf(subject === undefined ? 'rkt' : subject.group, globals);
    reporter.note('missing command');
    await printHelp(reporter, subject);
    return MISSING_COMMAND_STATUS;
  }
  return await runCommand(subject, addressed, { options, reporterOf });
}

/** Finds the command: global flags may stand before it, and the beginning of its name is enough when no other begins so. */
function address(argv: readonly string[]): Addressed {
  const globals = new FlagValues();
  let help = false;
  const skipFlags = (start: number): number => {
    try {
      return readFlags(argv, start, { flags: flags.GLOBAL_FLAGS, sink: (flag, value, text) => globals.add(flag, value, text) }).next;
    } catch (error) {
      if (!(error instanceof HelpRequested)) throw error;
      help = true;
      return argv.length;
    }
  };
  let index = skipFlags(0);
  if (argv[index] === 'help') {
    help = true;
    index = skipFlags(index + 1);
  }
  const word = argv[index];
  if (word === undefined) return { subject: undefined, globals, rest: [], help };
  const first = uniqueByPrefix(word, [...new Set(COMMANDS.map(({ name }) => name.split(' ')[0] ?? ''))], 'rkt');
  if (!Object.hasOwn(GROUPS, first)) return { subject: commandNamed(first), globals, rest: argv.slice(index + 1), help };

  index = skipFlags(index + 1);
  const second = argv[index];
  if (second === undefined) return { subject: { group: first }, globals, rest: [], help };
  const members = COMMANDS.filter(({ name }) => name.startsWith(`${first} `)).map(({ name }) => name.slice(first.length + 1));
  return { subject: commandNamed(`${first} ${uniqueByPrefix(second, members, `rkt ${first}`)}`), globals, rest: argv.slice(index + 1), help };
}

function uniqueByPrefix(word: string, names: readonly string[], parent: string): string {
  if (names.includes(word)) return word;
  const matches = names.filter((name) => name.startsWith(word));
  const [only] = matches;
  if (only === undefined || matches.length > 1) {
    throw new RktError('USAGE', `unknown command ${JSON.stringify(word)} for ${JSON.stringify(parent)}`, {
      hint: matches.length > 1 ? `it may mean: ${matches.join(', ')}` : `run "${parent} --help" for usage`,
    });
  }
  return only;
}

function commandNamed(name: string): CommandSpec {
  const spec = COMMANDS.find((candidate) => candidate.name === name);
  if (spec === undefined) throw usage(`unknown command ${JSON.stringify(name)}`);
  return spec;
}

interface Running {
  options: DispatchOptions;
  reporterOf(command: string, globals?: FlagValues): Reporter;
}

async function runCommand(spec: CommandSpec, { globals, rest }: Addressed, running: Running): Promise<number> {
  const { options } = running;
  // rkt calls a command of a group by its last word.
  const command = spec.name.slice(spec.name.lastIndexOf(' ') + 1);
  let reporter = running.reporterOf(command, globals);
  try {
    const parsed = parse(spec, rest, globals);
    reporter = running.reporterOf(command, globals);
    const context = createContext(globals, reporter, { ...options, commands: { all: COMMANDS, groups: GROUPS } });
    if (spec.needsRoot && !isOwnDirectory(context.dataDir(), options.uid)) {
      reporter.note('cannot run as unprivileged user');
      return FAILURE_STATUS;
    }
    const { result, exitStatus } = await parsed.run(context);
    reporter.result(result);
    return exitStatus;
  } catch (error) {
    if (error instanceof HelpRequested) return await printHelp(reporter, spec);
    reporter.error(error);
    return FAILURE_STATUS;
  }
}

interface Parsed {
  run(context: ReturnType<typeof createContext>): Promise<Outcome>;
}

/** Reads the flags behind the command. Global ones among them join those before it. */
function parse(spec: CommandSpec, argv: readonly string[], globals: FlagValues): Parsed {
  const known = [...flags.GLOBAL_FLAGS, ...spec.flags];
  if (spec.grammar === 'images') {
    const commandLine = withContext('error parsing app image arguments', () => readImageArguments(argv, known, { appArguments: spec.appArguments }));
    moveGlobals(commandLine.pod, globals);
    return { run: async (context) => await (await spec.load()).run(commandLine, context) };
  }
  const input = readArguments(argv, known, { interspersed: spec.interspersed });
  moveGlobals(input.values, globals);
  return { run: async (context) => await (await spec.load()).run(input, context) };
}

function moveGlobals(from: FlagValues, to: FlagValues): void {
  for (const { flag, value, text } of from.given()) if (flags.GLOBAL_FLAGS.includes(flag)) to.add(flag, value, text);
}

function withContext<T>(context: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof RktError && error.code === 'USAGE') throw new RktError('USAGE', context, { cause: error });
    throw error;
  }
}

async function printHelp(reporter: Reporter, subject: Subject | undefined): Promise<number> {
  const { helpText } = await import('./help.ts');
  reporter.result({ kind: 'lines', lines: [helpText(subject).trimEnd()] });
  return 0;
}
