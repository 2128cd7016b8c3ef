/** Kubernetes resource quantities (`512Mi`, `1.5G`, `250m`, `1e3`), as appc isolators use them. */
import { BadFieldError } from '../checked.ts';

const SUFFIXES: Record<string, number> = {
  n: 1e-9, u: 1e-6, m: 1e-3, '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};

/** The quantity in its base unit (bytes, cores). */
export function parseQuantity(text: string, field: string): number {
  let end = 0;
  while (end < text.length && '+-.0123456789'.includes(text[end] ?? '')) end++;
  const value = end === 0 ? NaN : Number(text.slice(0, end));
  const suffix = text.slice(end);
  const scale = SUFFIXES[suffix] ?? exponent(suffix);
  if (!Number.isFinite(value) || scale === undefined || value < 0) throw new BadFieldError(`${field}: "${text}" is not a quantity`);
  return value * scale;
}

function exponent(suffix: string): number | undefined {
  if (suffix.length < 2 || (suffix[0] !== 'e' && suffix[0] !== 'E')) return undefined;
  const power = Number(suffix.slice(1));
  return Number.isInteger(power) ? 10 ** power : undefined;
}
