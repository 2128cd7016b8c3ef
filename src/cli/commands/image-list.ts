import { openStore } from '../../store/index.ts';
import type { StoredImage } from '../../store/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { absoluteTime, binarySize, relativeTime } from '../humanize.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

type Field = 'id' | 'name' | 'size' | 'importtime' | 'lastused';
type SortField = Exclude<Field, 'id'>;

const HEADERS: Readonly<Record<Field, string>> = { id: 'ID', name: 'NAME', size: 'SIZE', importtime: 'IMPORT TIME', lastused: 'LAST USED' };
const ALL_FIELDS: readonly Field[] = ['id', 'name', 'size', 'importtime', 'lastused'];
/** `sha512-` and 12 digits. */
const SHORT_ID_LENGTH = 19;

const SORT_KEYS: Readonly<Record<SortField, (image: StoredImage) => string | number>> = {
  name: (image) => image.name,
  importtime: (image) => image.importTimeMs,
  lastused: (image) => image.lastUsedMs,
  size: (image) => image.sizeBytes,
};

export function run({ values }: ArgumentInput, context: CommandContext): Outcome {
  const images = openStore(context.dataDir()).listImages();
  sortImages(images, { fields: values.last(flags.sort) ?? ['importtime'], descending: values.last(flags.order) === 'desc' });
  const format = values.last(flags.format) ?? '';
  if (format !== '') return success({ kind: 'json', value: images.map(imageJson), pretty: format === 'json-pretty' });
  const fields = values.last(flags.fields) ?? ALL_FIELDS;
  const options = { full: values.last(flags.full) ?? false, nowMs: Date.now() };
  const rows = images.map((image) => fields.map((field) => cell(image, field, options)));
  return success({ kind: 'table', rows, trailingTab: true, ...(values.last(flags.noLegend) === true ? {} : { legend: fields.map((field) => HEADERS[field]) }) });
}

function sortImages(images: StoredImage[], options: { fields: readonly SortField[]; descending: boolean }): void {
  images.sort((a, b) => {
    for (const field of options.fields) {
      const [left, right] = [SORT_KEYS[field](a), SORT_KEYS[field](b)];
      if (left !== right) return left < right !== options.descending ? -1 : 1;
    }
    return 0;
  });
}

function cell(image: StoredImage, field: Field, options: { full: boolean; nowMs: number }): string {
  const time = (timeMs: number): string => (options.full ? absoluteTime(timeMs) : relativeTime(timeMs, options.nowMs));
  switch (field) {
    case 'id':
      return options.full ? image.id : image.id.slice(0, SHORT_ID_LENGTH);
    case 'name':
      return nameWithVersion(image);
    case 'size':
      return options.full ? String(image.sizeBytes) : binarySize(image.sizeBytes);
    case 'importtime':
      return time(image.importTimeMs);
    case 'lastused':
      return time(image.lastUsedMs);
  }
}

function nameWithVersion(image: StoredImage): string {
  const version = image.labels['version'];
  return version === undefined ? image.name : `${image.name}:${version}`;
}

function imageJson(image: StoredImage): Record<string, unknown> {
  const nanoseconds = (timeMs: number): bigint => BigInt(Math.round(timeMs)) * 1_000_000n;
  return { id: image.id, name: nameWithVersion(image), import_time: nanoseconds(image.importTimeMs), last_used_time: nanoseconds(image.lastUsedMs), size: image.sizeBytes };
}
