import t from 'tap';
import { RktError } from '../../src/error.ts';
import { readTar, type ReadTarOptions, type TarEntry } from '../../src/rootfs/index.ts';
import { parseNumberField, parsePaxTime } from '../../src/rootfs/tar-number.ts';
import { seededRandom } from '../helpers/random.ts';
import { base256, bytes, concat, END_OF_ARCHIVE, gnuLong, latin1, padToBlock, paxData, sparseMember, stream, tar, tarHeader, tarMember, type TarMember } from '../helpers/tar-writer.ts';

interface ReadEntry extends Omit<TarEntry, 'body'> {
  /** Holes read as zeros. */
  content: Uint8Array;
}

async function readAll(archive: Uint8Array, options: ReadTarOptions & { chunks?: readonly number[] } = {}): Promise<ReadEntry[]> {
  const entries: ReadEntry[] = [];
  for await (const { body, ...entry } of readTar(stream(archive, options.chunks), options)) {
    const content = new Uint8Array(entry.sizeBytes);
    for await (const { offsetBytes, data } of body) content.set(data, offsetBytes);
    entries.push({ ...entry, content });
  }
  return entries;
}

async function only(archive: Uint8Array): Promise<ReadEntry> {
  const entries = await readAll(archive);
  const [entry] = entries;
  if (entry === undefined || entries.length !== 1) throw new Error(`${entries.length} entries`);
  return entry;
}

/** What reading an archive ends with: code and message. */
async function failure(archive: Uint8Array, options: ReadTarOptions = {}): Promise<{ code: string; message: string }> {
  try {
    await readAll(archive, { name: 'a.tar', ...options });
  } catch (error) {
    if (error instanceof RktError) return { code: error.code, message: error.message };
    throw error;
  }
  return { code: 'none', message: 'read without an error' };
}

t.test('ustar: all types with all their fields', async (t) => {
  const entries = await readAll(
    tar([
      { path: 'dir/', flag: '5', mode: 0o1755, uid: 1, gid: 2, mtime: 3 },
      { path: 'dir/file', data: 'hello', mode: 0o4711, uid: 1000, gid: 1001, mtime: 1700000000 },
      { path: 'dir/old', flag: '\0', data: 'x' },
      { path: 'dir/contiguous', flag: '7', data: 'y' },
      { path: 'link', flag: '2', link: '/absolute/../target' },
      { path: 'hard', flag: '1', link: 'dir/file', sizeField: 5 },
      { path: 'null', flag: '3', device: { major: 1, minor: 3 } },
      { path: 'disk', flag: '4', device: { major: 259, minor: 70000 } },
      { path: 'pipe', flag: '6' },
      { path: 'name', prefix: 'a/long/prefix' },
    ]),
  );
  t.strictSame(
    entries.map(({ type, path }) => `${type} ${path}`),
    ['directory dir/', 'file dir/file', 'file dir/old', 'file dir/contiguous', 'symlink link', 'hardlink hard', 'character null', 'block disk', 'fifo pipe', 'file a/long/prefix/name'],
  );
  const file = entries[1];
  t.match(file, { mode: 0o4711, uid: 1000, gid: 1001, mtime: { seconds: 1700000000, nanoseconds: 0 }, sizeBytes: 5 });
  t.same(file?.content, bytes('hello'));
  t.equal(entries[4]?.linkPath, '/absolute/../target');
  t.strictSame(entries[7]?.device, { major: 259, minor: 70000 });
});

t.test('the same entries however the stream is cut', async (t) => {
  const archive = concat(
    gnuLong('L', 'deep/'.repeat(40) + 'name'),
    tarMember({ path: 'x', data: new Uint8Array(3000).fill(7), pax: [['mtime', '1.5']] }),
    sparseMember('1.0', { path: 's', size: 100_000, pieces: [{ offset: 0, data: bytes('begin') }, { offset: 99_990, data: bytes('end') }] }),
    tar([{ path: 'last', data: 'z' }]),
  );
  const whole = await readAll(archive);
  const random = seededRandom(7);
  for (const chunks of [[1], [511, 1, 513], [0, 100], Array.from({ length: 50 }, () => random.below(2000))]) {
    t.same(await readAll(archive, { chunks }), whole);
  }
});

t.test('names are bytes', async (t) => {
  const raw = Uint8Array.from([0x66, 0xff, 0x80, 0xc3]);
  t.equal((await only(tar([{ path: raw }]))).path, 'f\xff\x80\xc3');
  t.equal((await only(tar([{ path: 'x', pax: [['path', raw]] }]))).path, 'f\xff\x80\xc3');
  t.equal((await only(tar([{ path: 'l', flag: '2', link: raw }]))).linkPath, 'f\xff\x80\xc3');
});

t.test('extended headers', async (t) => {
  const value = Uint8Array.from([1, 0, 0, 2, 0xff, 0x0a, 0x3d, 0x80]);
  const entry = await only(
    tar([
      {
        path: 'short',
        data: 'abc',
        pax: [
          ['path', 'p/'.repeat(100) + 'x'],
          ['uid', '4000000000'],
          ['gid', '12'],
          ['mtime', '-1.25'],
          ['atime', '7'],
          ['uname', 'nobody'],
          ['SCHILY.xattr.security.capability', value],
          ['SCHILY.xattr.user.a%3Db%25', 'v'],
          ['SCHILY.xattr.user.empty', ''],
          ['LIBARCHIVE.xattr.user.a%3Db%25', 'b3RoZXI='],
          ['LIBARCHIVE.xattr.user.only%20here', 'AP8'],
        ],
      },
    ]),
  );
  t.equal(entry.path, 'p/'.repeat(100) + 'x');
  t.match(entry, { uid: 4000000000, gid: 12, mtime: { seconds: -2, nanoseconds: 750_000_000 } });
  t.same(
    [...entry.xattrs].sort(),
    [
      ['security.capability', value],
      ['user.a=b%', bytes('v')],
      ['user.empty', new Uint8Array(0)],
      ['user.only here', Uint8Array.from([0, 255])],
    ],
  );

  const sized = concat(tarMember({ path: 'h', flag: 'x', data: paxData([['size', '700']]) }), tarHeader({ path: 'big', sizeField: 0 }), padToBlock(new Uint8Array(700).fill(9)));
  t.equal((await only(concat(sized, END_OF_ARCHIVE))).content.filter((byte) => byte === 9).length, 700, 'size of the extended header rules');
  t.equal((await only(tar([{ path: 'kept', pax: [['path', 'p'], ['path', '']] }]))).path, 'kept', 'an empty value takes a record back');
  const [first, second] = await readAll(tar([{ path: 'g', flag: 'g', data: paxData([['mtime', '5'], ['comment', 'x']]) }, { path: 'a' }, { path: 'b', pax: [['mtime', '6']] }]));
  t.equal(first?.mtime.seconds, 5, 'a global header holds for what follows');
  t.equal(second?.mtime.seconds, 6, 'and an entry says it better');
});

t.test('GNU: long names, large numbers, star, V7', async (t) => {
  const name = 'n'.repeat(200);
  const target = 't'.repeat(300);
  const link = await only(concat(gnuLong('K', target), gnuLong('L', name), tar([{ path: 'cut', flag: '2', link: 'cut', magic: 'gnu' }])));
  t.match(link, { path: name, linkPath: target });
  t.match(await only(tar([{ path: 'x', mtime: -5, uid: 3_000_000_000, magic: 'gnu' }])), { mtime: { seconds: -5 }, uid: 3_000_000_000 });
  t.equal((await only(tar([{ path: 'x', magic: 'gnu', prefix: 'not a prefix' }]))).path, 'x', 'GNU has times where ustar has the prefix');
  t.equal((await only(tar([{ path: 'x', prefix: 'p', patch: [{ offset: 345 + 131, bytes: '00000000000\x0000000000000\0' }, { offset: 508, bytes: 'tar\0' }] }]))).path, 'p/x', 'star');
  t.equal((await only(tar([{ path: 'd/', magic: 'v7' }]))).type, 'directory', 'V7 knows a directory by its slash');
  t.strictSame((await readAll(tar([{ path: 'label', flag: 'V', data: 'volume' }, { path: 'dump', flag: 'D', data: 'Yname\0' }, { path: 'x' }]))).map(({ type, path }) => [type, path]), [['directory', 'dump'], ['file', 'x']]);
});

t.test('GNU sparse files', async (t) => {
  const pieces = Array.from({ length: 30 }, (_, i) => ({ offset: i * 10_000 + 17, data: new Uint8Array(100 + i).fill(i + 1) }));
  const file = { path: 'sparse', size: 400_000, pieces: [...pieces, { offset: 400_000, data: new Uint8Array(0) }] };
  const expected = new Uint8Array(file.size);
  for (const piece of pieces) expected.set(piece.data, piece.offset);
  for (const format of ['old', '0.0', '0.1', '1.0'] as const) {
    const [entry, next] = await readAll(concat(sparseMember(format, file), tar([{ path: 'next', data: 'n' }])));
    t.equal(entry?.path, 'sparse', format);
    t.same(entry?.content, expected, format);
    t.equal(entry?.extents?.length, 30, format);
    t.equal(next?.path, 'next', format);
  }
});

t.test('what is not read of an entry is skipped', async (t) => {
  const archive = tar([{ path: 'a', data: 'x'.repeat(5000) }, { path: 'b', data: 'y' }]);
  const paths: string[] = [];
  for await (const entry of readTar(stream(archive, [700]))) {
    paths.push(entry.path);
    for await (const _ of entry.body) break;
  }
  t.strictSame(paths, ['a', 'b']);
});

t.test('the end of an archive', async (t) => {
  const member = tarMember({ path: 'x', data: 'y' });
  t.equal((await readAll(member)).length, 1, 'end blocks may be missing');
  t.equal((await readAll(concat(member, new Uint8Array(512)))).length, 1);
  t.equal((await readAll(new Uint8Array(0))).length, 0);
  t.equal((await readAll(concat(member, END_OF_ARCHIVE, latin1('trailing'), member))).length, 1, 'what follows the end is ignored');
  for (const cut of [1, 511, 513, 600, 1023]) t.match(await failure(member.subarray(0, cut)), { code: 'BAD_IMAGE', message: /truncated/ }, `cut at ${cut}`);
  t.match(await failure(concat(member, new Uint8Array(512), member)), { code: 'BAD_IMAGE', message: /single zero block/ });
  t.match(await failure(tarMember({ path: 'p', flag: 'x', data: paxData([['path', 'x']]) })), { code: 'BAD_IMAGE', message: /ends behind an extended header/ });
  t.match(await failure(bytes('not a tar archive at all '.repeat(30))), { code: 'BAD_IMAGE', message: /a\.tar: .*not a tar archive/ });
});

t.test('hostile archives are refused with a message that names the entry', async (t) => {
  const pax = (...records: [string, string | Uint8Array][]): Uint8Array => tar([{ path: 'evil', pax: records }]);
  const extended = (data: string | Uint8Array): Uint8Array => tar([{ path: 'evil', flag: 'x', data }, { path: 'y' }]);
  const patched = (offset: number, data: string | Uint8Array, more: Partial<TarMember> = {}): Uint8Array => tar([{ path: 'evil', ...more, patch: [{ offset, bytes: data }] }]);
  const cases: [what: string, archive: Uint8Array, code: string, message: RegExp][] = [
    ['4 GB PAX header', concat(tarHeader({ path: 'evil', flag: 'x', sizeField: 4 * 2 ** 30 }), new Uint8Array(5000)), 'LIMIT', /"evil".*4294967296 bytes exceeds/],
    ['4 GB long name', concat(tarHeader({ path: 'evil', flag: 'L', magic: 'gnu', sizeField: 4 * 2 ** 30 }), new Uint8Array(5000)), 'LIMIT', /4294967296/],
    ['many PAX headers for one entry', concat(...Array.from({ length: 40 }, () => tarMember({ path: 'evil', flag: 'x', data: paxData([['comment', 'c'.repeat(60_000)]]) })), END_OF_ARCHIVE), 'LIMIT', /of one entry exceed/],
    ['many global headers', concat(...Array.from({ length: 40 }, () => tarMember({ path: 'evil', flag: 'g', data: paxData([['comment', 'c'.repeat(60_000)]]) })), END_OF_ARCHIVE), 'LIMIT', /global headers exceed/],
    ['PAX path with NUL', pax(['path', 'a\0b']), 'BAD_IMAGE', /path has a NUL/],
    ['PAX link with NUL', tar([{ path: 'evil', flag: '2', pax: [['linkpath', 'a\0b']] }]), 'BAD_IMAGE', /"evil".*link target has a NUL/],
    ['PAX sparse name with NUL', pax(['GNU.sparse.name', 'a\0b'], ['GNU.sparse.size', '0'], ['GNU.sparse.map', '']), 'BAD_IMAGE', /NUL/],
    ['GNU name with something behind its NUL', concat(tarMember({ path: '././@LongLink', flag: 'L', data: 'a\0b\0' }), tar([{ path: 'x' }])), 'BAD_IMAGE', /behind its NUL/],
    ['PAX size negative', pax(['size', '-1']), 'BAD_IMAGE', /"evil".*size is not a number: "-1"/],
    ['PAX size overflowing', pax(['size', '99999999999999999999']), 'BAD_IMAGE', /size is not a number/],
    ['PAX size hexadecimal', pax(['size', '0x10']), 'BAD_IMAGE', /size is not a number/],
    ['header size negative', patched(124, base256(-1n, 12)), 'BAD_IMAGE', /size is negative/],
    ['header size overflowing', patched(124, base256(2n ** 70n, 12)), 'BAD_IMAGE', /size is not a number/],
    ['header size no number', patched(124, 'zzzzzzzzzzz\0'), 'BAD_IMAGE', /size is not a number/],
    ['header size of an extended header negative', concat(tarHeader({ path: 'evil', flag: 'x', patch: [{ offset: 124, bytes: base256(-512n, 12) }] }), END_OF_ARCHIVE), 'BAD_IMAGE', /size of the extended header/],
    ['file larger than allowed', tar([{ path: 'evil', pax: [['size', String(2 ** 50)]] }]), 'LIMIT', /file of 1125899906842624 bytes/],
    ['mode no number', patched(100, 'rwxr-xr\0'), 'BAD_IMAGE', /mode is not a number/],
    ['uid -1', patched(108, base256(-1n, 8)), 'BAD_IMAGE', /uid -1/],
    ['uid 2^32-1', pax(['uid', '4294967295']), 'BAD_IMAGE', /uid 4294967295/],
    ['gid no number', pax(['gid', 'root']), 'BAD_IMAGE', /gid is not a number: "root"/],
    ['mtime no time', pax(['mtime', 'yesterday']), 'BAD_IMAGE', /mtime is not a time: "yesterday"/],
    ['mtime with two dots', pax(['mtime', '1.2.3']), 'BAD_IMAGE', /mtime/],
    ['device number out of range', tar([{ path: 'evil', flag: '3', device: { major: 4096, minor: 0 } }]), 'BAD_IMAGE', /major/],
    ['minor number out of range', tar([{ path: 'evil', flag: '4', device: { major: 0, minor: 0x10_0000 } }]), 'BAD_IMAGE', /minor/],
    ['empty path', tar([{ path: '' }]), 'BAD_IMAGE', /path is empty/],
    ['empty link target', tar([{ path: 'evil', flag: '2' }]), 'BAD_IMAGE', /"evil".*link target is empty/],
    ['path too long', pax(['path', 'x/'.repeat(2100)]), 'LIMIT', /path of 4200 bytes/],
    ['record length too large', extended('99 path=x\n'), 'BAD_IMAGE', /not a list of/],
    ['record length 0', extended('0 path=x\n'), 'BAD_IMAGE', /not a list of/],
    ['record length negative', extended('-9 path=x\n'), 'BAD_IMAGE', /not a list of/],
    ['record length smaller than the record', extended('5 path=x\n'), 'BAD_IMAGE', /not a list of/],
    ['record without newline', extended('10 path=xy'), 'BAD_IMAGE', /not a list of/],
    ['record without equals sign', extended('9 pathxy\n'), 'BAD_IMAGE', /not a list of/],
    ['record without key', extended('6 =ab\n'), 'BAD_IMAGE', /not a list of/],
    ['rest behind the records', extended('10 path=x\n\0\0'), 'BAD_IMAGE', /not a list of/],
    ['global path', tar([{ path: 'evil', flag: 'g', data: paxData([['path', 'x']]) }, { path: 'y' }]), 'BAD_IMAGE', /global header sets "path"/],
    ['global xattr', tar([{ path: 'evil', flag: 'g', data: paxData([['SCHILY.xattr.user.x', 'y']]) }, { path: 'y' }]), 'BAD_IMAGE', /global header sets "SCHILY\.xattr\.user\.x"/],
    ['unknown type', tar([{ path: 'evil', flag: '8' }]), 'UNSUPPORTED', /"evil".*type flag "8"/],
    ['second volume', tar([{ path: 'evil', flag: 'M' }]), 'UNSUPPORTED', /multi-volume/],
    ['xattrs too large', pax(...Array.from({ length: 20 }, (_, i): [string, string] => [`SCHILY.xattr.user.${i}`, 'v'.repeat(4000)])), 'LIMIT', /xattrs of/],
    ['xattr without name', pax(['SCHILY.xattr.', 'v']), 'BAD_IMAGE', /xattr name/],
    ['xattr with NUL', pax(['SCHILY.xattr.user.\0', 'v']), 'BAD_IMAGE', /xattr name/],
    ['xattr name too long', pax([`SCHILY.xattr.user.${'n'.repeat(255)}`, 'v']), 'BAD_IMAGE', /xattr name/],
    ['xattr no base64', pax(['LIBARCHIVE.xattr.user.x', '!!']), 'BAD_IMAGE', /not base64/],
    ['checksum', (() => { const archive = tar([{ path: 'a' }, { path: 'b' }]); archive[512] = 0x7a; return archive; })(), 'BAD_IMAGE', /header at byte 512: header checksum/],
    ['sparse map backwards', pax(['GNU.sparse.size', '100'], ['GNU.sparse.name', 'evil'], ['GNU.sparse.map', '50,0,10,0']), 'BAD_IMAGE', /"evil".*backwards/],
    ['sparse map beyond the end', pax(['GNU.sparse.size', '100'], ['GNU.sparse.map', '200,0']), 'BAD_IMAGE', /beyond the end of the file/],
    ['sparse map with other sizes', tar([{ path: 'evil', data: 'abc', pax: [['GNU.sparse.size', '100'], ['GNU.sparse.map', '0,2']] }]), 'BAD_IMAGE', /lists 2 bytes of data, the entry has 3/],
    ['sparse map odd', pax(['GNU.sparse.size', '100'], ['GNU.sparse.map', '1,2,3']), 'BAD_IMAGE', /no sparse map/],
    ['sparse map no numbers', pax(['GNU.sparse.size', '100'], ['GNU.sparse.map', 'a,b']), 'BAD_IMAGE', /no sparse map/],
    ['sparse without size', pax(['GNU.sparse.map', '']), 'BAD_IMAGE', /no sparse map/],
    ['sparse of unknown version', pax(['GNU.sparse.major', '2'], ['GNU.sparse.minor', '0'], ['GNU.sparse.realsize', '0']), 'BAD_IMAGE', /no sparse map/],
    ['sparse offsets out of turn', pax(['GNU.sparse.size', '9'], ['GNU.sparse.numbytes', '0'], ['GNU.sparse.offset', '0']), 'BAD_IMAGE', /no sparse map/],
    ['sparse file too large', pax(['GNU.sparse.size', String(2 ** 50)], ['GNU.sparse.map', '']), 'LIMIT', /file of/],
    ['sparse map in the body without end', tar([{ path: 'evil', data: '9999\n'.padEnd(512, '0\n'), pax: [['GNU.sparse.major', '1'], ['GNU.sparse.minor', '0'], ['GNU.sparse.realsize', '0']] }]), 'BAD_IMAGE', /sparse map goes beyond the end of the entry/],
    ['sparse map in the body no numbers', tar([{ path: 'evil', data: 'x'.repeat(512), pax: [['GNU.sparse.major', '1'], ['GNU.sparse.minor', '0'], ['GNU.sparse.realsize', '0']] }]), 'BAD_IMAGE', /not a list of numbers/],
    ['old sparse map with negative numbers', patched(386, concat(base256(-5n, 12), base256(10n, 12)), { flag: 'S', magic: 'gnu', data: 'x' }), 'BAD_IMAGE', /negative/],
  ];
  for (const [what, archive, code, message] of cases) t.match(await failure(archive), { code, message }, what);
});

t.test('limits', async (t) => {
  const archive = tar([{ path: 'a' }, { path: 'b' }, { path: 'c' }]);
  t.match(await failure(archive, { limits: { entries: 2 } }), { code: 'LIMIT', message: /more than 2 entries/ });
  t.match(await failure(archive, { limits: { totalBytes: 1000 } }), { code: 'LIMIT', message: /larger than 1000 bytes/ });
  t.match(await failure(concat(archive, new Uint8Array(100_000)), { limits: { totalBytes: 50_000 } }), { code: 'LIMIT' }, 'what follows the end counts');
  t.match(await failure(concat(...Array.from({ length: 9 }, () => gnuLong('L', 'x')), archive), { limits: { entries: 8 } }), { code: 'LIMIT' }, 'headers without an entry count');
});

t.test('messages show names without their tricks', async (t) => {
  const { message } = await failure(tar([{ path: 'a\x1b[31m"\n\u202e', flag: '8' }]));
  t.match(message, '"a\\x1b[31m\\"\\x0a\\u{202e}"');
  t.notMatch(message, '\x1b');
  t.match(await failure(tar([{ path: latin1('\xff\xfe'), flag: '8' }])), { message: /"ÿþ"/ });
});

t.test('an error of the source passes, and the source is given up', async (t) => {
  let isClosed = false;
  async function* broken(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield tarMember({ path: 'x' });
      yield tarHeader({ path: 'evil', flag: '8' });
      yield END_OF_ARCHIVE;
    } finally {
      isClosed = true;
    }
  }
  await t.rejects(async () => {
    for await (const _ of readTar(broken())) continue;
  }, { code: 'UNSUPPORTED' });
  t.ok(isClosed);
  async function* failing(): AsyncGenerator<Uint8Array, void, undefined> {
    yield tarMember({ path: 'x' });
    throw new TypeError('network');
  }
  await t.rejects(async () => {
    for await (const _ of readTar(failing())) continue;
  }, new TypeError('network'));
});

t.test('numbers', async (t) => {
  for (const [text, value] of [['0000644\0', 420], ['   644 \0', 420], ['644', 420], ['\0\0\0', 0], ['', 0], ['8', undefined], ['-1', undefined], ['7777777777777777777777', undefined]] as const) {
    t.equal(parseNumberField(latin1(text)), value, JSON.stringify(text));
  }
  const random = seededRandom(3);
  for (let i = 0; i < 200; i++) {
    const value = (random.below(2) === 0 ? 1 : -1) * random.below(2 ** 32) * random.below(2 ** 20);
    t.equal(parseNumberField(base256(BigInt(value), 12)), value === 0 ? 0 : value);
  }
  for (const [text, time] of [['0', [0, 0]], ['1.5', [1, 5e8]], ['1.', [1, 0]], ['-0.25', [-1, 75e7]], ['-3', [-3, 0]], ['2.0000000019', [2, 1]], ['1.x', undefined], ['', undefined], ['-', undefined], ['--1', undefined], ['1e3', undefined]] as const) {
    t.strictSame(parsePaxTime(text), time === undefined ? undefined : { seconds: time[0], nanoseconds: time[1] }, text);
  }
});
