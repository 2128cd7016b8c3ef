/**
 * Quantities in the notation of Kubernetes (`resource.Quantity`): a decimal number and a suffix, `16Mi`, `1.5G`,
 * `500m`, `1e3`. Exact: computed in whole nano-units.
 */
const NANO = 1_000_000_000n;
/** Longer texts are no quantities anyone means; the limit keeps the arithmetic small. */
const TEXT_MAX_LENGTH = 64;
const EXPONENT_MAX = 30;

interface Scale {
  numerator: bigint;
  denominator: bigint;
}

const SUFFIXES: ReadonlyMap<string, Scale> = new Map<string, Scale>([
  ['', { numerator: 1n, denominator: 1n }],
  ...powers(['m', 'u', 'n'], (power) => ({ numerator: 1n, denominator: 1000n ** power })),
  ...powers(['k', 'M', 'G', 'T', 'P', 'E'], (power) => ({ numerator: 1000n ** power, denominator: 1n })),
  ...powers(['Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'], (power) => ({ numerator: 1024n ** power, denominator: 1n })),
]);

function powers(suffixes: readonly string[], scale: (power: bigint) => Scale): [string, Scale][] {
  return suffixes.map((suffix, index) => [suffix, scale(BigInt(index + 1))]);
}

export const QUANTITY_EXPECTATION = 'a quantity such as 16Mi, 50M, 1G, 2 or 500m';

/** Billionths of the unit, rounded away from zero as Kubernetes does; undefined when the text is no quantity. */
export function quantityNano(text: string): bigint | undefined {
  if (text.length > TEXT_MAX_LENGTH) return undefined;
  const parts = /^([+-]?)(\d*)(?:\.(\d*))?(?:([a-zA-Z]*)|[eE]([+-]?\d+))$/.exec(text);
  if (parts === null) return undefined;
  const [, sign = '', whole = '', fraction = '', suffix = '', exponent] = parts;
  if (whole === '' && fraction === '') return undefined;
  const scale = exponent === undefined ? SUFFIXES.get(suffix) : powerOfTen(Number(exponent));
  if (scale === undefined) return undefined;
  const dividend = BigInt(whole + fraction) * scale.numerator * NANO;
  const divisor = scale.denominator * 10n ** BigInt(fraction.length);
  const nano = (dividend + divisor - 1n) / divisor;
  return sign === '-' ? -nano : nano;
}

/** Whole units, rounded up: bytes of `16Mi`. Undefined when the text is no quantity or the number is beyond 2^53. */
export function quantityUnits(text: string): number | undefined {
  return scaled(text, NANO);
}

/** Thousandths, rounded up: `500m` is 500, `2` is 2000. Undefined when the text is no quantity or the number is beyond 2^53. */
export function quantityMilli(text: string): number | undefined {
  return scaled(text, NANO / 1000n);
}

function scaled(text: string, unitNano: bigint): number | undefined {
  const nano = quantityNano(text);
  if (nano === undefined) return undefined;
  const roundedUp = nano > 0n ? (nano + unitNano - 1n) / unitNano : nano / unitNano;
  const number = Number(roundedUp);
  return Number.isSafeInteger(number) ? number : undefined;
}

function powerOfTen(exponent: number): Scale | undefined {
  if (Math.abs(exponent) > EXPONENT_MAX) return undefined;
  return exponent >= 0 ? { numerator: 10n ** BigInt(exponent), denominator: 1n } : { numerator: 1n, denominator: 10n ** BigInt(-exponent) };
}
