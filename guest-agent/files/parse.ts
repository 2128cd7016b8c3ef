/** Requests for files, and entries, as they arrive from the host. Throw BadFieldError naming the field. */
import { complaintAboutPath, PATH_MAX_BYTES, type FileEntry, type FilesMessage, type FilesRequest } from '../../src/wire/files.ts';
import { asBoolean, asId, asInteger, asObject, asString, fail, type JsonObject } from '../checked.ts';

const asMode = asInteger({ min: 0, max: 0o7777 });
const asSize = asInteger({ min: 0, max: Number.MAX_SAFE_INTEGER });
const asSeconds = asInteger({ min: -(2 ** 40), max: 2 ** 40 });
const asNanoseconds = asInteger({ min: 0, max: 999_999_999 });
const asDeviceNumber = asInteger({ min: 0, max: 0xffffffff });

export function parseFilesRequest(value: unknown): FilesRequest {
  const request = asObject(value, 'files');
  const direction = asString(request['direction'], 'files.direction');
  const app = asString(request['app'], 'files.app');
  const path = asString(request['path'], 'files.path');
  if (sys.utf8(path).length > PATH_MAX_BYTES) fail('files.path', `at most ${PATH_MAX_BYTES} bytes`);
  if (direction === 'out') {
    return { direction, app, path, followLink: asBoolean(request['followLink'], 'files.followLink'), xattrs: asBoolean(request['xattrs'], 'files.xattrs') };
  }
  if (direction !== 'in') fail('files.direction', '"in" or "out"');
  const top = asString(request['top'], 'files.top');
  if (top !== 'directory' && top !== 'file' && top !== 'entries') fail('files.top', '"directory", "file" or "entries"');
  const name = request['name'] === null ? null : asString(request['name'], 'files.name');
  return { direction, app, path, name, top, archive: asBoolean(request['archive'], 'files.archive') };
}

/** What the host may send in a tree. */
export function parseFileMessage(message: object): FileEntry | Extract<FilesMessage, { type: 'end' }> {
  const fields = asObject(message, 'entry');
  const type = asString(fields['type'], 'entry.type');
  switch (type) {
    case 'end':
      return { type };
    case 'directory': case 'fifo':
      return { type, ...attributesOf(fields) };
    case 'file':
      return { type, ...attributesOf(fields), sizeBytes: asSize(fields['sizeBytes'], 'entry.sizeBytes') };
    case 'symlink': {
      const target = asString(fields['target'], 'entry.target');
      if (target === '' || target.length > PATH_MAX_BYTES) fail('entry.target', `1 to ${PATH_MAX_BYTES} bytes`);
      return { type, ...attributesOf(fields), target };
    }
    case 'hardlink':
      return { type, ...attributesOf(fields), target: asPath(fields['target'], 'entry.target') };
    case 'character': case 'block':
      return { type, ...attributesOf(fields), major: asDeviceNumber(fields['major'], 'entry.major'), minor: asDeviceNumber(fields['minor'], 'entry.minor') };
    default:
      throw fail('entry.type', 'known type');
  }
}

function attributesOf(fields: JsonObject): Omit<Extract<FileEntry, { type: 'directory' }>, 'type'> {
  return {
    path: asPath(fields['path'], 'entry.path'),
    mode: asMode(fields['mode'], 'entry.mode'),
    uid: asId(fields['uid'], 'entry.uid'),
    gid: asId(fields['gid'], 'entry.gid'),
    seconds: asSeconds(fields['seconds'], 'entry.seconds'),
    nanoseconds: asNanoseconds(fields['nanoseconds'], 'entry.nanoseconds'),
  };
}

function asPath(value: unknown, field: string): string {
  const path = asString(value, field);
  const complaint = complaintAboutPath(path);
  if (complaint !== undefined) fail(field, `path without ${complaint}`);
  return path;
}
