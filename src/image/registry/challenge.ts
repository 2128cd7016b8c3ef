/** `WWW-Authenticate` (RFC 9110, 11.6.1): what a server wants to see. */
export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  scheme: string;
  /** Names in lower case. */
  parameters: ReadonlyMap<string, string>;
}

const TOKEN = "[A-Za-z0-9!#$%&'*+.^_`|~-]+";
const SCHEME = new RegExp(`\\s*,?\\s*(${TOKEN})(?=[\\s,]|$)`, 'y');
const PARAMETER = new RegExp(`\\s*,?\\s*(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))`, 'y');

const HEADER_MAX_CHARACTERS = 8192;

/** Several challenges may stand in one header. What is malformed ends the list. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: Challenge[] = [];
  if (header.length > HEADER_MAX_CHARACTERS) return challenges;
  let at = 0;
  const next = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(header);
    if (match !== null) at = pattern.lastIndex;
    return match;
  };
  for (let scheme = next(SCHEME); scheme !== null; scheme = next(SCHEME)) {
    const parameters = new Map<string, string>();
    for (let parameter = next(PARAMETER); parameter !== null; parameter = next(PARAMETER)) {
      const [, name = '', quoted, bare] = parameter;
      parameters.set(name.toLowerCase(), quoted === undefined ? (bare ?? '') : quoted.replace(/\\(.)/g, '$1'));
    }
    challenges.push({ scheme: (scheme[1] ?? '').toLowerCase(), parameters });
  }
  return challenges;
}
