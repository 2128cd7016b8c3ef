/** OpenPGP keys, signatures and messages as parsers of what anybody may send. */
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { createMessage, enums, generateKey, sign } from 'openpgp';
import type { PrivateKey } from 'openpgp';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { parseDetachedSignature, verifyDetached } from '../../src/image/signature/openpgp-detached.ts';
import { openSignedMessage } from '../../src/image/signature/openpgp-message.ts';
import { hasKeysForPrefix, keysFor, storeKey } from '../../src/image/trust/keystore.ts';
import { fingerprintText, parsePublicKeys } from '../../src/image/trust/public-key.ts';
import type { ParsedPublicKey } from '../../src/image/trust/public-key.ts';
import { printable } from '../../src/image/trust/review.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { seededRandom } from '../helpers/random.ts';
import type { SeededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const CONTENT = Buffer.from('content of an ACI');

interface Signed {
  privateKey: PrivateKey;
  armoredKey: Buffer;
  key: ParsedPublicKey;
  /** Detached, armored. */
  signature: Buffer;
  /** With the content in it. */
  message: Buffer;
}

async function makeSigned(userId = 'Signer'): Promise<Signed> {
  const { privateKey, publicKey } = await generateKey({ userIDs: { name: userId }, format: 'object' });
  const armoredKey = Buffer.from(publicKey.armor());
  const [key] = await parsePublicKeys(armoredKey, 'key');
  if (key === undefined) throw new Error('no key');
  return {
    privateKey,
    armoredKey,
    key,
    signature: Buffer.from(await sign({ message: await createMessage({ binary: CONTENT }), signingKeys: privateKey, detached: true })),
    message: Buffer.from(await sign({ message: await createMessage({ binary: CONTENT }), signingKeys: privateKey, format: 'binary' })),
  };
}

t.test('fingerprints and names as they are shown', async (t) => {
  t.equal(fingerprintText('8b86de38890ddb7291867b025210bd8888182190'), '8B86 DE38 890D DB72 9186  7B02 5210 BD88 8818 2190');
  t.equal(fingerprintText('0'.repeat(64)), `${'0000 '.repeat(7)}0000  ${'0000 '.repeat(7)}0000`);
  t.equal(printable('a\u001b[31m\r\n\u202eb\u0085é😀'), 'a?[31m???b?é😀');
});

t.test('the keystore: which keys count, and where they are put', async (t) => {
  const dir = scratchDir(t, 'keystore');
  const [system, local, user] = [join(dir, 'system'), join(dir, 'local'), join(dir, 'user')];
  const fingerprint = (digit: string): string => digit.repeat(40);
  const put = (configDir: string, prefix: string, digit: string): string => storeKey(configDir, { prefix, fingerprint: fingerprint(digit), armored: 'key' });
  t.equal(put(local, '', 'a'), join(local, 'trustedkeys/root.d', fingerprint('a')));
  t.equal(put(local, 'example.com/app', 'b'), join(local, 'trustedkeys/prefix.d/example.com/app', fingerprint('b')));
  put(system, 'example.com', 'c');
  put(user, 'example.com/app/sub', 'd');
  const names = (name: string): string[] => keysFor(name, [system, local, user]).map((key) => `${key.fingerprint[0] ?? ''}:${key.prefix}`).sort();
  t.strictSame(names('example.com/app'), ['a:', 'b:example.com/app', 'c:example.com']);
  t.strictSame(names('example.com/app/sub/x'), ['a:', 'b:example.com/app', 'c:example.com', 'd:example.com/app/sub']);
  t.strictSame(names('example.com/ap'), ['a:', 'c:example.com']);
  t.strictSame(names('other.com'), ['a:']);
  t.equal(hasKeysForPrefix('example.com/app', [system, local]), true);
  t.equal(hasKeysForPrefix('example.com', [local]), false);
  t.throws(() => keysFor('../../etc', [local]), { code: 'BAD_INPUT' });
  t.throws(() => put(local, 'Example.com', 'e'), { code: 'BAD_INPUT' });
  // What a killed process leaves behind is no key.
  writeFileSync(join(local, 'trustedkeys/root.d/.unfinished-x'), 'half');
  t.ok(names('other.com'));
  mkdirSync(join(local, 'trustedkeys/root.d/directory'));
  t.ok(names('other.com'));
  t.strictSame(readdirSync(join(local, 'trustedkeys/root.d')).filter((name) => !name.startsWith('.')).length, 2);
  if (process.getuid?.() !== 0) {
    chmodSync(join(local, 'trustedkeys/root.d'), 0);
    t.throws(() => names('other.com'), { code: 'PERMISSION' }, 'keys that cannot be read are not keys that are not there');
  }
});

t.test('key files: several blocks, other blocks, too much', async (t) => {
  const [first, second] = [await makeSigned('First'), await makeSigned('Second')];
  t.strictSame((await parsePublicKeys(Buffer.concat([first.armoredKey, Buffer.from('some text\n'), second.armoredKey]), 'x')).map(({ userIds }) => userIds[0]), ['First', 'Second']);
  t.equal((await parsePublicKeys(first.key.key.write(), 'x'))[0]?.fingerprint, first.key.fingerprint);
  for (const [bytes, code] of [
    [Buffer.alloc(0), 'BAD_INPUT'],
    [Buffer.from('hello'), 'BAD_INPUT'],
    [Buffer.from(first.privateKey.armor()), 'BAD_INPUT'],
    [Buffer.from(first.privateKey.write()), 'BAD_INPUT'],
    [first.signature, 'BAD_INPUT'],
    [first.message, 'BAD_INPUT'],
    [first.armoredKey.subarray(0, 200), 'BAD_INPUT'],
    [Buffer.alloc((4 << 20) + 1), 'LIMIT'],
    [Buffer.concat(Array.from({ length: 65 }, () => first.armoredKey)), 'LIMIT'],
  ] as const) {
    await t.rejects(parsePublicKeys(bytes, 'file'), { code, message: /^file: / });
  }
});

t.test('signed messages: content only with a good signature, and only so much of it', async (t) => {
  const [signer, other] = [await makeSigned(), await makeSigned()];
  const now = new Date();
  const opened = await openSignedMessage(signer.message, [other.key, signer.key], now);
  t.strictSame(Buffer.from(opened.content), CONTENT);
  t.equal(opened.signer, signer.key);
  await t.rejects(openSignedMessage(signer.message, [other.key], now), { code: 'BAD_SIGNATURE', message: /unknown entity/ });
  await t.rejects(openSignedMessage(signer.message, [], now), { code: 'BAD_SIGNATURE' });
  const changed = Buffer.from(signer.message);
  changed[changed.indexOf(CONTENT) + 1] = 0x21;
  await t.rejects(openSignedMessage(changed, [signer.key], now), { code: 'BAD_SIGNATURE', message: /invalid signature/ });
  await t.rejects(openSignedMessage(signer.message, [signer.key], new Date(Date.now() - 86_400_000)), { code: 'BAD_SIGNATURE' }, 'a key of the future');

  const literal = Buffer.concat([Buffer.from([0xcb, 0xff, 0x0c, 0x00, 0x00, 0x06, 0x62, 0, 0, 0, 0, 0]), Buffer.alloc(200 << 20)]);
  const compressed = deflateSync(literal);
  const header = Buffer.from([0xc8, 0xff, 0, 0, 0, 0, 2]);
  header.writeUInt32BE(compressed.length + 1, 2);
  const before = process.memoryUsage().arrayBuffers;
  await t.rejects(openSignedMessage(Buffer.concat([header, compressed]), [signer.key], now), { code: 'BAD_SIGNATURE' });
  t.ok(process.memoryUsage().arrayBuffers - before < 64 << 20, 'what unpacks to 200 MiB is not unpacked');
});

const PIECES = ['\x00', '\xff', '\x80', '\xc8', '\x98', '-----BEGIN PGP', '-----END', '=', '\n', '\n\n', 'A', ': '];

function mutated(random: SeededRandom, bytes: Buffer): Buffer {
  let result = Buffer.from(bytes);
  for (let count = 1 + random.below(3); count > 0; count--) {
    const at = random.below(result.length + 1);
    switch (random.below(4)) {
      case 0:
        result = result.subarray(0, at);
        break;
      case 1:
        result = Buffer.concat([result.subarray(0, at), Buffer.from(random.pick(PIECES), 'latin1'), result.subarray(at + random.below(3))]);
        break;
      case 2:
        if (result.length > 0) result[random.below(result.length)] = random.below(256);
        break;
      default:
        result = Buffer.concat([result.subarray(0, at), result.subarray(random.below(result.length + 1))]);
    }
  }
  return result;
}

interface Target {
  name: string;
  seed: Buffer;
  /** True: accepted. */
  attempt(bytes: Buffer): Promise<boolean>;
}

async function targets(directory: string): Promise<Target[]> {
  const signer = await makeSigned();
  const file = join(directory, 'content');
  writeFileSync(file, CONTENT);
  const now = new Date(Date.now() + 1000);
  const detached = async (bytes: Buffer): Promise<boolean> => (await verifyDetached(file, { packets: await parseDetachedSignature(bytes), keys: [signer.key], now })) === signer.key;
  const message = async (bytes: Buffer): Promise<boolean> => {
    const { content } = await openSignedMessage(bytes, [signer.key], now);
    if (!CONTENT.equals(content)) throw new Error('accepted other content');
    return true;
  };
  const keys = async (bytes: Buffer): Promise<boolean> => (await parsePublicKeys(bytes, 'key')).length > 0;
  const [packet] = await parseDetachedSignature(signer.signature);
  return [
    { name: 'armored signature', seed: signer.signature, attempt: detached },
    { name: 'binary signature', seed: Buffer.concat([Buffer.from([0xc0 | enums.packet.signature, packet?.write().length ?? 0]), packet?.write() ?? new Uint8Array()]), attempt: detached },
    { name: 'message', seed: signer.message, attempt: message },
    { name: 'armored key', seed: signer.armoredKey, attempt: keys },
    { name: 'binary key', seed: Buffer.from(signer.key.key.write()), attempt: keys },
  ];
}

async function fuzz(directory: string, seed: number, mayGoOn: (round: number) => boolean): Promise<Map<string, number>> {
  const all = await targets(directory);
  const ends = new Map<string, number>();
  for (let round = 0; mayGoOn(round); round++) {
    const random = seededRandom(seed + round);
    const { name, seed: good, attempt } = random.pick(all);
    const bytes = mutated(random, good);
    let end = `${name}: accepted`;
    try {
      await attempt(bytes);
    } catch (error) {
      if (!(error instanceof RktError) || error.code === 'INTERNAL') throw new Error(`seed ${seed + round}, ${name}: ${bytes.toString('base64')}`, { cause: error });
      end = `${name}: ${error.code}`;
    }
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  return ends;
}

t.test('mutated keys, signatures, messages', async (t) => {
  const directory = scratchDir(t, 'fuzz');
  for (const { name, seed, attempt } of await targets(directory)) t.equal(await attempt(seed), true, name);
  const ends = await fuzz(directory, 1, (round) => round < 600);
  t.comment(JSON.stringify([...ends].sort()));
  for (const name of ['armored signature', 'binary signature', 'message']) t.ok((ends.get(`${name}: BAD_SIGNATURE`) ?? 0) > 20, name);
});

fuzzForLong('mutated keys, signatures, messages', async (seed, mayGoOn) => await fuzz(scratchDir(t, 'fuzz'), seed, mayGoOn));
