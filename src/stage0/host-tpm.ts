/**
 * `--tpm=host`: one event for each pod also into the TPM of this machine, as rkt did (stage0/run.go: PCR 15), so that what
 * ran here can be told from the machine's own quotes. The events are kept beside the store, in a log of the same form as the pods'.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { lockFile } from '../linux/flock.ts';
import { encodeLogEvent, encodeLogHeader, eventOf, execute, getPcrBanks, manifestDigest, measuredPodManifest, pcrExtend, TPM_MAX_MESSAGE_BYTES } from '../tpm/index.ts';
import type { HashName, JsonObject, TaggedDigest, TpmTransport } from '../tpm/index.ts';

/** The kernel's resource manager, which shares the TPM among its users. */
const DEVICE = '/dev/tpmrm0';
/** Those that Node can compute; a bank that could not be extended would be free for anybody's claims. */
const ALGORITHMS: Partial<Record<HashName, string>> = { sha1: 'sha1', sha256: 'sha256', sha384: 'sha384', sha512: 'sha512' };

export interface HostEvent {
  dataDir: string;
  uuid: string;
  /** Text of the pod manifest. */
  manifest: string;
}

/** Throws RktError: then the pod must not run. */
export async function measureIntoHostTpm(event: HostEvent, device: string = DEVICE): Promise<void> {
  const fd = openDevice(device);
  try {
    await extendHostTpm(event, (command) => Promise.resolve(exchange(fd, command)));
  } finally {
    closeSync(fd);
  }
}

export async function extendHostTpm({ dataDir, uuid, manifest }: HostEvent, transport: TpmTransport): Promise<void> {
  const { pcr, type, data } = eventOf({ kind: 'pod', uuid, manifestSha256: manifestDigest(measuredPodManifest(JSON.parse(manifest) as JsonObject)) });
  const banks = (await execute(transport, getPcrBanks())).map(({ bank }) => bank);
  const digests = banks.map((bank) => digestIn(bank, data));
  const log = openLog(dataDir, banks);
  try {
    await execute(transport, pcrExtend(pcr, digests));
    writeSync(log.fd, encodeLogEvent({ pcr, type, data, digests }));
  } finally {
    closeSync(log.fd);
    log.release();
  }
}

function digestIn(bank: HashName, data: Uint8Array): TaggedDigest {
  const name = ALGORITHMS[bank];
  if (name === undefined) throw new RktError('UNSUPPORTED', `the TPM of this host has a bank of ${bank}, which cannot be computed here`, { hint: 'switch that bank off in the firmware, or use --tpm=on' });
  return { algorithm: bank, digest: createHash(name).update(data).digest() };
}

function openDevice(device: string): number {
  try {
    return openSync(device, constants.O_RDWR);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) throw new RktError('MISSING_DEPENDENCY', `this host has no TPM: ${device} does not exist`, { cause, hint: 'pods have one of their own with --tpm=on' });
    throw new RktError('PERMISSION', `cannot open the TPM of this host, ${device}`, { cause });
  }
}

/** The device takes a whole command in one write and gives a whole answer in one read. */
function exchange(fd: number, command: Uint8Array): Uint8Array {
  writeSync(fd, command);
  const response = new Uint8Array(TPM_MAX_MESSAGE_BYTES);
  return response.subarray(0, readSync(fd, response));
}

/** Held until the event is in both places, so that the log has the order of the register. */
function openLog(dataDir: string, banks: readonly HashName[]): { fd: number; release(): void } {
  const directory = join(dataDir, 'tpm');
  mkdirSync(directory, { recursive: true, mode: 0o750 });
  const lock = lockFile(join(directory, 'host-eventlog.lock'), 'exclusive', { block: true });
  if (lock === null) throw new RktError('INTERNAL', 'cannot get the lock of the event log of the host TPM');
  const fd = openSync(join(directory, 'host-eventlog'), constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND, 0o640);
  if (fstatSync(fd).size === 0) writeSync(fd, encodeLogHeader(banks));
  return { fd, release: () => lock.release() };
}
