/** Help screens, laid out by commander from the declarations of commands and flags. */
import { Command, Option } from 'commander';
import type { CommandSpec } from './command.ts';
import { COMMANDS, GROUPS } from './command-table.ts';
import type { AnyFlag } from './flags/flag.ts';
import * as flags from './flags/table.ts';

const WIDTH = 110;
const TOP_DESCRIPTION = `rkt, the application container runner: every pod is a virtual machine.

To get the help on any specific command, run "rkt help command".`;

/** Help of rkt itself, of a group (`image`) or of a command. */
export function helpText(subject: CommandSpec | { group: string } | undefined): string {
  if (subject === undefined) return topHelp();
  return 'group' in subject ? groupHelp(subject.group) : commandHelp(subject);
}

function topHelp(): string {
  const program = newCommand('rkt', '[command]').description(TOP_DESCRIPTION);
  for (const spec of COMMANDS.filter(({ name }) => !name.includes(' '))) program.addCommand(newCommand(spec.name, '').description(spec.summary));
  for (const [name, summary] of Object.entries(GROUPS)) program.addCommand(newCommand(name, '').description(summary));
  program.addCommand(newCommand('help', '').description('Help about any command'));
  addOptions(program, flags.GLOBAL_FLAGS, 'Global Flags:');
  return program.helpInformation();
}

function groupHelp(group: string): string {
  const program = newCommand(`rkt ${group}`, '[command]').description(GROUPS[group] ?? '');
  for (const spec of COMMANDS.filter(({ name }) => name.startsWith(`${group} `))) program.addCommand(newCommand(spec.name.slice(group.length + 1), '').description(spec.summary));
  addOptions(program, flags.GLOBAL_FLAGS, 'Global Flags:');
  return program.helpInformation();
}

function commandHelp(spec: CommandSpec): string {
  const command = newCommand(`rkt ${spec.name}`, `[flags] ${spec.usage}`.trim()).description([spec.summary, spec.description].filter((part) => part !== undefined).join('\n\n'));
  const ofApp = spec.flags.filter(({ scope }) => scope === 'app' || scope === 'pod-or-app');
  addOptions(command, spec.flags.filter((flag) => !ofApp.includes(flag)), 'Flags:');
  addOptions(command, ofApp, 'Flags of an app (behind its image):');
  addOptions(command, flags.GLOBAL_FLAGS, 'Global Flags:');
  return command.helpInformation();
}

function newCommand(name: string, usage: string): Command {
  return new Command(name)
    .usage(usage)
    .helpOption(false)
    .helpCommand(false)
    .configureHelp({ helpWidth: WIDTH, sortSubcommands: true, sortOptions: true, visibleOptions: (command) => command.options.filter(({ hidden }) => !hidden) })
    .configureOutput({ getOutHasColors: () => false });
}

function addOptions(command: Command, list: readonly AnyFlag[], heading: string): void {
  for (const flag of list) {
    const option = new Option(optionSyntax(flag), flag.defaultText === undefined ? flag.help : `${flag.help} (default ${flag.defaultText})`).helpGroup(heading);
    if (flag.hidden === true) option.hideHelp();
    command.addOption(option);
  }
}

function optionSyntax({ name, short, placeholder, bareValue }: AnyFlag): string {
  if (placeholder === undefined) return short === undefined ? `--${name}` : `-${short}, --${name}`;
  return bareValue === undefined ? `--${name} <${placeholder}>` : `--${name} [${placeholder}]`;
}
