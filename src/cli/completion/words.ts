/** What a word of a command line can become. Pure, but for what is looked up in the store and the pods. */
import type { PodState } from '../../pod/index.ts';
import type { CommandSet, CommandSpec } from '../command.ts';
import type { AnyFlag } from '../flags/flag.ts';
import { INSECURE_NAMES } from '../flags/insecure.ts';
import * as flags from '../flags/table.ts';
import { argumentsOf, statesOf } from './arguments.ts';
import type { ArgumentKind } from './arguments.ts';

export interface Candidate {
  /** The whole word. */
  word: string;
  help: string;
}

export interface Completion {
  candidates: Candidate[];
  /** Paths fit, too, behind this beginning of the word. */
  paths?: { kind: 'files' | 'directories'; behind: string };
}

/** Things that have names; each may be empty, none throws. */
export interface Names {
  pods(states: readonly PodState[] | undefined): Candidate[];
  images(): { id: string; name: string }[];
  networks(): string[];
  /** Of the pod whose UUID begins so. */
  apps(pod: string): string[];
}

interface Line {
  commands: CommandSet;
  spec: CommandSpec | undefined;
  /** `image` in `rkt image …`. */
  group: string | undefined;
  /** Arguments before the word. */
  positional: string[];
  /** The flag whose value the word is. */
  flag: AnyFlag | undefined;
  /** The word belongs to an app or to a command in a pod. */
  isForeign: boolean;
}

/** @param words behind `rkt`, up to and with the one to be completed (which may be empty) */
export function complete(words: readonly string[], commands: CommandSet, names: Names): Completion {
  const word = words.at(-1) ?? '';
  const line = readLine(words.slice(0, -1), commands);
  if (line.isForeign) return { candidates: [], paths: { kind: 'files', behind: '' } };
  if (line.flag !== undefined) return fitting(word, flagValues(line.flag, { line, names, typed: word }), '');
  if (word.startsWith('-')) return completeFlag(word, line, names);
  if (line.spec === undefined) return fitting(word, { candidates: commandNames(line) }, '');
  return fitting(word, completeArgument(word, line, names), '');
}

/** Goes wrong quietly: whatever is typed is not finished yet. */
function readLine(words: readonly string[], commands: CommandSet): Line {
  const line: Line = { commands, spec: undefined, group: undefined, positional: [], flag: undefined, isForeign: false };
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    if (line.isForeign) {
      if (word === '---') line.isForeign = false;
    } else if (word === '--' && line.spec !== undefined) {
      line.isForeign = true;
    } else if (word.startsWith('--') && word !== '---') {
      const flag = knownFlags(line).find(({ name }) => name === word.slice(2));
      if (flag === undefined || flag.bareValue !== undefined) continue;
      if (index === words.length - 1) line.flag = flag;
      index++;
    } else {
      takeArgument(word, line);
    }
  }
  return line;
}

function takeArgument(word: string, line: Line): void {
  if (line.spec !== undefined) {
    line.positional.push(word);
    if (line.spec.grammar === 'arguments' && !line.spec.interspersed && line.positional.length > 1) line.isForeign = true;
    return;
  }
  // `rkt help image list`
  if (word === 'help' && line.group === undefined) return;
  const { all, groups } = line.commands;
  if (line.group === undefined && Object.hasOwn(groups, word)) line.group = word;
  else line.spec = all.find(({ name }) => name === (line.group === undefined ? word : `${line.group} ${word}`));
}

function knownFlags({ spec }: Pick<Line, 'spec'>): AnyFlag[] {
  return [...(spec?.flags ?? []), ...flags.GLOBAL_FLAGS];
}

function commandNames({ commands: { all, groups }, group }: Line): Candidate[] {
  if (group !== undefined) return all.filter(({ name }) => name.startsWith(`${group} `)).map(({ name, summary }) => ({ word: name.slice(group.length + 1), help: summary }));
  const single = all.filter(({ name }) => !name.includes(' ')).map(({ name, summary }) => ({ word: name, help: summary }));
  return [...single, ...Object.entries(groups).map(([word, help]) => ({ word, help })), { word: 'help', help: 'Help about any command' }];
}

function completeFlag(word: string, line: Line, names: Names): Completion {
  const equals = word.indexOf('=');
  if (equals !== -1) {
    const flag = knownFlags(line).find(({ name }) => name === word.slice(2, equals));
    if (flag === undefined) return { candidates: [] };
    const typed = word.slice(equals + 1);
    return fitting(typed, flagValues(flag, { line, names, typed }), word.slice(0, equals + 1));
  }
  const isBehindImage = line.positional.length > 0;
  const usable = knownFlags(line).filter(({ hidden, scope }) => hidden !== true && (scope !== 'app' || isBehindImage));
  const candidates = usable.map(({ name, placeholder, bareValue, help }) => ({ word: placeholder !== undefined && bareValue === undefined ? `--${name}=` : `--${name}`, help }));
  return fitting(word, { candidates }, '');
}

/** Without those that do not begin as the word does; `before` is put in front again. */
function fitting(typed: string, completion: Completion, before: string): Completion {
  const candidates = completion.candidates.filter(({ word }) => word.startsWith(typed)).map(({ word, help }) => ({ word: before + word, help }));
  return completion.paths === undefined ? { candidates } : { candidates, paths: { ...completion.paths, behind: before } };
}

interface Asked {
  line: Line;
  names: Names;
  typed: string;
}

function flagValues(flag: AnyFlag, { line, names, typed }: Asked): Completion {
  switch (flag) {
    case flags.insecure:
      return { candidates: listed(typed, plain(INSECURE_NAMES)) };
    case flags.net:
      return { candidates: listed(typed, plain(names.networks())) };
    case flags.app:
      return { candidates: line.positional[0] === undefined ? [] : plain(names.apps(line.positional[0])) };
  }
  if (flag.placeholder === 'FILE') return { candidates: [], paths: { kind: 'files', behind: '' } };
  if (flag.placeholder === 'DIR') return { candidates: [], paths: { kind: 'directories', behind: '' } };
  // `on|off|host`; in `IP|host|none` only what stands for itself.
  const alternatives = flag.placeholder?.split('|') ?? [];
  if (alternatives.length > 1) return { candidates: plain(alternatives.filter((text) => /^[a-z][a-z0-9-]*$/.test(text))) };
  return { candidates: flag.placeholder === undefined ? plain(['true', 'false']) : [] };
}

function plain(words: readonly string[]): Candidate[] {
  return words.map((word) => ({ word, help: '' }));
}

/** The last part of a comma-separated list, without what is in it already. */
function listed(typed: string, candidates: readonly Candidate[]): Candidate[] {
  const head = typed.slice(0, typed.lastIndexOf(',') + 1);
  const taken = head.split(',');
  return candidates.filter(({ word }) => !taken.includes(word)).map(({ word, help }) => ({ word: head + word, help }));
}

function completeArgument(word: string, { spec, positional }: Line, names: Names): Completion {
  if (spec === undefined) return { candidates: [] };
  const kinds = argumentsOf(spec, positional.length);
  const candidatesOf: Record<Exclude<ArgumentKind, 'files'>, () => Candidate[]> = {
    pods: () => names.pods(statesOf(spec)).filter((pod) => !positional.includes(pod.word)),
    images: () => names.images().map(({ id, name }) => (word.startsWith('sha512-') ? { word: id, help: name } : { word: name, help: id })),
    networks: () => plain(names.networks()),
  };
  const candidates = kinds.flatMap((kind) => (kind === 'files' ? [] : candidatesOf[kind]()));
  // Images are files as well.
  const hasPaths = kinds.includes('files') || (kinds.includes('images') && spec.grammar === 'images');
  return { candidates, ...(hasPaths ? { paths: { kind: 'files', behind: '' } } : {}) };
}
