/** Times as RFC 3339 with nanoseconds, in UTC: `2026-11-22T08:00:00.123456789Z`. Always as long, so that texts sort as times do. Pure. */
const NS_PER_SECOND = 1_000_000_000n;
const SECONDS_PER_DAY = 86400;

let cachedSecond = -1;
let cachedText = '';

/** @param ns nanoseconds since the epoch */
export function rfc3339(ns: bigint): string {
  const second = Number(ns / NS_PER_SECOND);
  if (second !== cachedSecond) {
    cachedSecond = second;
    cachedText = secondText(second);
  }
  return `${cachedText}.${digits(Number(ns % NS_PER_SECOND), 9)}Z`;
}

function secondText(second: number): string {
  const days = Math.floor(second / SECONDS_PER_DAY);
  const inDay = second % SECONDS_PER_DAY;
  const { year, month, day } = civilDate(days);
  return `${digits(year, 4)}-${digits(month, 2)}-${digits(day, 2)}T${digits(Math.floor(inDay / 3600), 2)}:${digits(Math.floor(inDay / 60) % 60, 2)}:${digits(inDay % 60, 2)}`;
}

/** Proleptic Gregorian date of a day since 1970-01-01, counted in eras of 400 years that begin on 1 March. */
function civilDate(days: number): { year: number; month: number; day: number } {
  const sinceEra0 = days + 719_468;
  const era = Math.floor(sinceEra0 / 146_097);
  const dayOfEra = sinceEra0 - era * 146_097;
  const yearOfEra = Math.floor((dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365);
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const fromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9;
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day: dayOfYear - Math.floor((153 * fromMarch + 2) / 5) + 1 };
}

function digits(value: number, count: number): string {
  return String(value).padStart(count, '0');
}
