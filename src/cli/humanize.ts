/** Times and sizes as rkt shows them (go-humanize, and Go's layout "2006-01-02 15:04:05.999 -0700 MST"). */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;
const MONTH = 30 * DAY;
const YEAR = 12 * MONTH;
const LONG_TIME = 37 * YEAR;

/** The first entry whose limit is above the distance says how it is told. */
const MAGNITUDES: readonly { belowMs: number; text: string; unitMs?: number }[] = [
  { belowMs: SECOND, text: 'now' },
  { belowMs: 2 * SECOND, text: '1 second %s' },
  { belowMs: MINUTE, text: '%d seconds %s', unitMs: SECOND },
  { belowMs: 2 * MINUTE, text: '1 minute %s' },
  { belowMs: HOUR, text: '%d minutes %s', unitMs: MINUTE },
  { belowMs: 2 * HOUR, text: '1 hour %s' },
  { belowMs: DAY, text: '%d hours %s', unitMs: HOUR },
  { belowMs: 2 * DAY, text: '1 day %s' },
  { belowMs: WEEK, text: '%d days %s', unitMs: DAY },
  { belowMs: 2 * WEEK, text: '1 week %s' },
  { belowMs: MONTH, text: '%d weeks %s', unitMs: WEEK },
  { belowMs: 2 * MONTH, text: '1 month %s' },
  { belowMs: YEAR, text: '%d months %s', unitMs: MONTH },
  { belowMs: 18 * MONTH, text: '1 year %s' },
  { belowMs: 2 * YEAR, text: '2 years %s' },
  { belowMs: LONG_TIME, text: '%d years %s', unitMs: YEAR },
  { belowMs: Infinity, text: 'a long while %s' },
];

/** `3 minutes ago`, `now`, `2 hours from now`. */
export function relativeTime(timeMs: number, nowMs: number): string {
  const distanceMs = Math.abs(nowMs - timeMs);
  const label = timeMs > nowMs ? 'from now' : 'ago';
  const magnitude = MAGNITUDES.find((entry) => distanceMs < entry.belowMs) ?? { text: 'a long while %s' };
  const count = 'unitMs' in magnitude && magnitude.unitMs !== undefined ? Math.floor(distanceMs / magnitude.unitMs) : 0;
  return magnitude.text.replace('%d', String(count)).replace('%s', label);
}

/** `2015-12-14 12:30:33.652 +0100 CET` in the machine's time zone; zeros at the end of the fraction are dropped. */
export function absoluteTime(timeMs: number): string {
  const time = new Date(timeMs);
  const date = [time.getFullYear(), pad(time.getMonth() + 1), pad(time.getDate())].join('-');
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map(pad).join(':');
  const milliseconds = Math.floor(time.getMilliseconds());
  const fraction = milliseconds === 0 ? '' : `.${String(milliseconds).padStart(3, '0').replace(/0+$/, '')}`;
  const offsetMinutes = -time.getTimezoneOffset();
  const offset = `${offsetMinutes < 0 ? '-' : '+'}${pad(Math.floor(Math.abs(offsetMinutes) / 60))}${pad(Math.abs(offsetMinutes) % 60)}`;
  return `${date} ${clock}${fraction} ${offset} ${zoneName(time, offset)}`;
}

/** Abbreviation of the zone, or the offset where it has none, as Go does. */
function zoneName(time: Date, offset: string): string {
  if (offset === '+0000') return 'UTC';
  const name = /\((.*)\)$/.exec(time.toString())?.[1] ?? '';
  const initials = name.split(' ').map((word) => word.slice(0, 1)).join('');
  return /^[A-Z]{3,5}$/.test(initials) ? initials : offset.replace(/00$/, '');
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

const SIZE_SUFFIXES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** `12MiB`, `1.5KiB`, `9B`: powers of 1024, one decimal below ten. */
export function binarySize(bytes: number): string {
  if (bytes < 10) return `${bytes}B`;
  const exponent = Math.min(Math.floor(Math.log(bytes) / Math.log(1024)), SIZE_SUFFIXES.length - 1);
  const value = Math.floor((bytes / 1024 ** exponent) * 10 + 0.5) / 10;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)}${SIZE_SUFFIXES[exponent] ?? ''}`;
}
