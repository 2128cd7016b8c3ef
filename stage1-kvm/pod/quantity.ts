/**
 * Kubernetes resource quantities as appc isolators carry them: `256M`, `1Gi`, `500m`, `1.5`, `12e6`.
 * Grammar: decimal number, then one of n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or e/E with a decimal exponent.
 */
const SUFFIXES = new Map<string, number>([
  ['', 1], ['n', 1e-9], ['u', 1e-6], ['m', 1e-3], ['k', 1e3], ['M', 1e6], ['G', 1e9], ['T', 1e12], ['P', 1e15], ['E', 1e18],
  ['Ki', 2 ** 10], ['Mi', 2 ** 20], ['Gi', 2 ** 30], ['Ti', 2 ** 40], ['Pi', 2 ** 50], ['Ei', 2 ** 60],
]);

/** The quantity as a number, or null when the text is not one (or is negative). */
export function parseQuantity(text: string): number | null {
  let end = 0;
  while (end < text.length && '0123456789.'.includes(text[end]!)) end++;
  const number = decimal(text.slice(0, end));
  if (number === null) return null;
  const suffix = text.slice(end);
  const factor = SUFFIXES.get(suffix) ?? exponent(suffix);
  return factor === null ? null : number * factor;
}

function decimal(text: string): number | null {
  if (text === '' || text === '.' || text.indexOf('.') !== text.lastIndexOf('.')) return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

function exponent(suffix: string): number | null {
  if (suffix.length < 2 || (suffix[0] !== 'e' && suffix[0] !== 'E')) return null;
  const digits = suffix[1] === '-' || suffix[1] === '+' ? suffix.slice(2) : suffix.slice(1);
  if (digits === '' || digits.length > 3) return null;
  for (const digit of digits) if (!'0123456789'.includes(digit)) return null;
  return 10 ** Number(suffix.slice(1));
}
