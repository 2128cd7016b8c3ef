import { NR_getrandom, NR_ioctl, O_WRONLY, RNDADDENTROPY } from '../abi.gen.ts';
import { check } from './errors.ts';
import { close } from './fds.ts';
import { open } from './files.ts';

/** At most 256 bytes: such a request is never cut short. */
export function randomBytes(count: number): Uint8Array<ArrayBuffer> {
  if (count > 256) throw new RangeError(`${count} random bytes asked for`);
  const bytes = new Uint8Array(count);
  check(sys.call(NR_getrandom, bytes, count, 0), 'getrandom');
  return bytes;
}

/** Feeds the kernel's pool and counts every bit of it. */
export function addEntropy(seed: Uint8Array): void {
  const request = new Uint8Array(8 + seed.length);
  const view = new DataView(request.buffer);
  view.setInt32(0, seed.length * 8, true);
  view.setInt32(4, seed.length, true);
  request.set(seed, 8);
  const fd = open('/dev/urandom', O_WRONLY);
  try {
    check(sys.call(NR_ioctl, fd, RNDADDENTROPY, request), 'RNDADDENTROPY');
  } finally {
    close(fd);
  }
}
