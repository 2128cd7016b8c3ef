/** Unit files as text (systemd.syntax(7), "COMMAND LINES" of systemd.service(5)). Pure. */

export interface Section {
  name: 'Unit' | 'Service' | 'Socket' | 'Install';
  settings: readonly (readonly [name: string, value: string])[];
}

/** Values must be escaped already. */
export function unitText(sections: readonly Section[]): string {
  return sections.map(({ name, settings }) => `[${name}]\n${settings.map(([key, value]) => `${key}=${value}\n`).join('')}`).join('\n');
}

/** Text that is taken as it is: `%` begins a specifier. */
export function literal(text: string): string {
  return text.replaceAll('%', '%%').replace(/[\r\n]+/g, ' ');
}

/** One of several words in a value. */
export function word(text: string): string {
  return /^[\w/.:=,@+-]+$/.test(text) ? text : `"${escaped(text).replaceAll('"', '\\"')}"`;
}

/** An `Exec…=` value; the program is an absolute path. */
export function commandLine([program = '', ...args]: readonly string[]): string {
  return [word(program), ...args.map((argument) => word(argument).replaceAll('$', '$$$$'))].join(' ');
}

/** Lines for `StandardInputText=`. */
export function inputText(text: string): string[] {
  return text.split('\n').map((line) => escaped(line.trimStart()));
}

const NAMED: Readonly<Record<string, string>> = { '\\': '\\\\', '%': '%%', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(text: string): string {
  return text.replace(/[\\%\u0000-\u001f\u007f]/g, (character) => NAMED[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
