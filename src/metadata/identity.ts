/** Signatures that tell which pod has signed (appc spec/ace.md, "Identity Endpoint"): HMAC-SHA512 over the pod's UUID and the content. */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';

const KEY_BYTES = 64;
const KEY_MODE = 0o600;

export interface Identity {
  /** Base64. */
  sign(uuid: string, content: string): string;
  verify(uuid: string, content: string, signature: string): boolean;
}

/** The key is made once and kept in the file, so that signatures outlive the service. */
export function openIdentity(keyPath: string): Identity {
  const key = readKey(keyPath) ?? makeKey(keyPath);
  const digest = (uuid: string, content: string): Buffer => createHmac('sha512', key).update(Buffer.from(uuid.replaceAll('-', ''), 'hex')).update(content).digest();
  return {
    sign: (uuid, content) => digest(uuid, content).toString('base64'),
    verify: (uuid, content, signature) => {
      const given = Buffer.from(signature, 'base64');
      const expected = digest(uuid, content);
      return given.length === expected.length && timingSafeEqual(given, expected);
    },
  };
}

function makeKey(path: string): Buffer {
  const key = randomBytes(KEY_BYTES);
  writeFileSync(path, key, { mode: KEY_MODE, flag: 'wx' });
  return key;
}

function readKey(path: string): Buffer | undefined {
  let key: Buffer;
  try {
    key = readFileSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw new RktError('IO', `cannot read the key of the metadata service ${path}`, { cause: error });
  }
  if (key.length !== KEY_BYTES) throw new RktError('BAD_INPUT', `${path}: expected a key of ${KEY_BYTES} bytes, found ${key.length}`, { hint: 'remove it: the metadata service makes another, and earlier signatures are void' });
  return key;
}
