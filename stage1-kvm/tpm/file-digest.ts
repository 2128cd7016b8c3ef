/** SHA-256 of files that hardly ever change: VMM, firmware, kernel, initramfs. */
import { MAP_PRIVATE, PROT_READ } from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { fstat, makeDirectories, readText, type Status } from '../../runtime/linux/files.ts';
import { writeJson } from '../../runtime/linux/json-file.ts';
import { mapMemory, unmapMemory } from '../../runtime/linux/memory.ts';
import { toHex } from '../../src/tpm/bytes.ts';
import { Stage1Error } from '../error.ts';

/** Belongs to root and is gone with the next boot. */
const RECORD_DIRECTORY = '/run/rkt/digests';
const LARGEST_BYTES = 512 << 20;

interface DigestRecord {
  identity: string;
  sha256: string;
}

/**
 * Of the open file that is then used, so that nobody can put another one in its place. Remembered for as long as neither
 * its inode nor any of its times changes: a change of the content always changes ctime.
 */
export function fileDigest(fd: number, name: string): string {
  const status = fstat(fd);
  const { inode, device, sizeBytes } = status;
  const identity = identityOf(status);
  const path = `${RECORD_DIRECTORY}/${device.major}-${device.minor}-${inode}.json`;
  const known = readRecord(path);
  if (known?.identity === identity) return known.sha256;
  if (sizeBytes === 0 || sizeBytes > LARGEST_BYTES) throw new Stage1Error(`${name}: ${sizeBytes} bytes, expected 1 to ${LARGEST_BYTES}`);
  const mapping = mapMemory({ fd, lengthBytes: sizeBytes, protection: PROT_READ, flags: MAP_PRIVATE });
  const sha256 = toHex(sys.hash(256, new Uint8Array(mapping.buffer)));
  unmapMemory(mapping);
  // A file that changed meanwhile is not what was hashed.
  if (identityOf(fstat(fd)) !== identity) throw new Stage1Error(`${name}: changed while it was being measured`, 'try again');
  remember(path, { identity, sha256 });
  return sha256;
}

function identityOf({ device, inode, sizeBytes, modifiedNs, changedNs }: Status): string {
  return [device.major, device.minor, inode, sizeBytes, modifiedNs, changedNs].join(' ');
}

function readRecord(path: string): DigestRecord | null {
  try {
    return JSON.parse(readText(path)) as DigestRecord;
  } catch {
    return null;
  }
}

function remember(path: string, record: DigestRecord): void {
  try {
    makeDirectories(RECORD_DIRECTORY, 0o700);
    writeJson(path, record, 0o600);
  } catch (error) {
    // Not root, or a read-only /run: computed again next time.
    if (!(error instanceof SysError)) throw error;
  }
}
