/** Manual pages in man(7), from the declarations of commands and flags, as help is. Pure. */
import type { CommandSet, CommandSpec } from './command.ts';
import type { AnyFlag } from './flags/flag.ts';
import * as flags from './flags/table.ts';

export interface ManPage {
  /** `rkt-image-list.1` */
  fileName: string;
  text: string;
}

const TOP_SUMMARY = 'the application container runner: every pod is a virtual machine';

/** One for rkt itself, for each group and for each command. */
export function manPages({ all, groups }: CommandSet, version: string): ManPage[] {
  const top = page({ name: 'rkt', summary: TOP_SUMMARY, version, synopsis: '[flags] COMMAND', sections: [commandSection('COMMANDS', all.map(({ name, summary }) => ({ name, summary }))), flagSection('FLAGS OF EVERY COMMAND', flags.GLOBAL_FLAGS)] });
  const ofGroups = Object.entries(groups).map(([group, summary]) =>
    page({ name: `rkt ${group}`, summary, version, synopsis: 'COMMAND', sections: [commandSection('COMMANDS', all.filter(({ name }) => name.startsWith(`${group} `)))] }),
  );
  return [top, ...ofGroups, ...all.map((spec) => commandPage(spec, version))];
}

function commandPage(spec: CommandSpec, version: string): ManPage {
  const ofApp = spec.flags.filter(({ scope }) => scope === 'app' || scope === 'pod-or-app');
  const sections = [
    ...(spec.description === undefined ? [] : [section('DESCRIPTION', paragraphs(spec.description))]),
    flagSection('FLAGS', spec.flags.filter((flag) => !ofApp.includes(flag))),
    flagSection('FLAGS OF AN APP', ofApp, 'They follow the image of the app.'),
    flagSection('FLAGS OF EVERY COMMAND', flags.GLOBAL_FLAGS),
    section('EXIT STATUS', ['0 on success, 254 when rkt refuses or fails.']),
  ];
  return page({ name: `rkt ${spec.name}`, summary: spec.summary, version, synopsis: `[flags] ${spec.usage}`.trim(), sections });
}

interface PageParts {
  /** As it is typed. */
  name: string;
  summary: string;
  version: string;
  synopsis: string;
  sections: readonly string[];
}

function page({ name, summary, version, synopsis, sections }: PageParts): ManPage {
  const pageName = name.replaceAll(' ', '-');
  const seeAlso = name === 'rkt' ? [] : [section('SEE ALSO', [`${bold('rkt')}(1)`])];
  return {
    fileName: `${pageName}.1`,
    text: [
      `.TH "${plain(pageName.toUpperCase())}" 1 "" "rkt ${plain(version)}" "rkt manual"`,
      // Long words, such as lists of what a flag takes, would leave gaps.
      '.ad l',
      section('NAME', [`${plain(pageName)} \\- ${plain(summary)}`]),
      section('SYNOPSIS', [`${bold(name)} ${plain(synopsis)}`]),
      ...[...sections, ...seeAlso].filter((text) => text !== ''),
      '',
    ].join('\n'),
  };
}

function section(heading: string, lines: readonly string[]): string {
  return [`.SH "${heading}"`, ...lines].join('\n');
}

function commandSection(heading: string, commands: readonly { name: string; summary: string }[]): string {
  return section(heading, [...commands].sort((a, b) => (a.name < b.name ? -1 : 1)).flatMap(({ name, summary }) => ['.TP', `${bold(`rkt ${name}`)}(1)`, line(summary)]));
}

/** Empty without flags. */
function flagSection(heading: string, list: readonly AnyFlag[], introduction?: string): string {
  const shown = list.filter(({ hidden }) => hidden !== true).sort((a, b) => (a.name < b.name ? -1 : 1));
  if (shown.length === 0) return '';
  return section(heading, [...(introduction === undefined ? [] : [line(introduction)]), ...shown.flatMap((flag) => ['.TP', flagSyntax(flag), line(flag.defaultText === undefined ? flag.help : `${flag.help} (default ${flag.defaultText})`)])]);
}

function flagSyntax({ name, short, placeholder, bareValue }: AnyFlag): string {
  const option = (short === undefined ? '' : `${bold(`-${short}`)}, `) + bold(`--${name}`);
  if (placeholder === undefined) return option;
  const value = `=\\fI${plain(placeholder)}\\fR`;
  return bareValue === undefined ? option + value : `${option}[${value}]`;
}

/** Blank lines are between paragraphs; what is indented stands as it is. */
function paragraphs(description: string): string[] {
  return description.split('\n\n').flatMap((paragraph, index) => {
    const start = index === 0 ? [] : ['.PP'];
    if (!paragraph.startsWith(' ')) return [...start, ...paragraph.split('\n').map(line)];
    return [...start, '.EX', ...paragraph.split('\n').map(line), '.EE'];
  });
}

const SPECIAL: Readonly<Record<string, string>> = { '\\': '\\e', '-': '\\-', "'": '\\(aq', '`': '\\(ga', '^': '\\(ha', '~': '\\(ti', '"': '\\(dq' };

function plain(text: string): string {
  return text.replace(/[\\\-'`^~"]/g, (character) => SPECIAL[character] ?? character);
}

/** A line of its own: it must not begin as a request does. */
function line(text: string): string {
  const escaped = plain(text);
  return escaped.startsWith('.') ? `\\&${escaped}` : escaped;
}

function bold(text: string): string {
  return `\\fB${plain(text)}\\fR`;
}
