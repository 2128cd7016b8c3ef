/** Manual pages: they say what help says, and formatters have nothing against them. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS, GROUPS } from '../../src/cli/command-table.ts';
import { helpText } from '../../src/cli/help.ts';
import { manPages } from '../../src/cli/man-page.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const pages = manPages({ all: COMMANDS, groups: GROUPS }, '2.0.0');

function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined;
}

/** Words of a page as a person reads it. */
function rendered(text: string): string {
  const { status, stdout, stderr } = spawnSync('mandoc', ['-Tutf8', '-Owidth=200'], { input: text, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  // Bold and underlined characters are struck twice.
  return stdout.replace(/.\x08/g, '');
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/** Each flag with what is said about it, as `--name=VALUE what it does`. */
function flagsIn(text: string, indent: string): string[] {
  const blocks: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith(`${indent}-`)) blocks.push(line);
    else if (line.startsWith(`${indent} `) && blocks.length > 0) blocks.push(`${blocks.pop() ?? ''} ${line}`);
  }
  return blocks.map((block) => oneLine(block).replace(/^((?:-\w, )?--\S+) <([^>]+)>/, '$1=$2').replace(/^((?:-\w, )?--\S+) \[([^\]]+)\]/, '$1[=$2]')).sort();
}

t.test('pages say what help says', { skip: isInstalled('mandoc') ? false : 'mandoc is not installed' }, async (t) => {
  t.equal(pages.length, 1 + Object.keys(GROUPS).length + COMMANDS.length);
  for (const spec of COMMANDS) {
    const page = pages.find(({ fileName }) => fileName === `rkt-${spec.name.replaceAll(' ', '-')}.1`);
    const [man, help] = [rendered(page?.text ?? ''), helpText(spec)];
    t.strictSame(flagsIn(man, '       '), flagsIn(help, '  '), `${spec.name}: flags`);
    const [usage = '', ...paragraphs] = help.slice(0, help.search(/^(Flags|Global Flags).*:$/m)).split('\n\n');
    t.ok(oneLine(man).includes(oneLine(usage.replace('Usage: ', ''))), `${spec.name}: usage`);
    for (const paragraph of paragraphs) t.ok(oneLine(man).includes(oneLine(paragraph)), `${spec.name}: ${paragraph}`);
  }
  const top = oneLine(rendered(pages[0]?.text ?? ''));
  for (const { name, summary } of COMMANDS) t.ok(top.includes(`rkt ${name}(1) ${oneLine(summary)}`), name);
});

t.test('mandoc -Tlint', { skip: isInstalled('mandoc') ? false : 'mandoc is not installed' }, async (t) => {
  const directory = scratchDir(t, 'man');
  for (const { fileName, text } of pages) writeFileSync(join(directory, fileName), text);
  const { stdout } = spawnSync('mandoc', ['-Tlint', '-Wwarning', ...readdirSync(directory)], { cwd: directory, encoding: 'utf8' });
  // The same pages whenever they are made.
  t.equal(stdout.split('\n').filter((line) => !line.includes('missing date')).join('\n').trim(), '');
});

t.test('groff -ww', { skip: isInstalled('groff') ? false : 'groff is not installed' }, async (t) => {
  const { status, stderr } = spawnSync('groff', ['-man', '-ww', '-Kutf8', '-Tutf8', '-z'], { input: pages.map(({ text }) => text).join('\n'), encoding: 'utf8' });
  t.equal(stderr, '');
  t.equal(status, 0);
});

t.test('the build writes them', async (t) => {
  const directory = join(import.meta.dirname, '../../dist/man/man1');
  t.strictSame(readdirSync(directory).sort(), pages.map(({ fileName }) => fileName).sort());
  t.match(readFileSync(join(directory, 'rkt-run.1'), 'utf8'), /^\.TH "RKT\\-RUN" 1/);
});
