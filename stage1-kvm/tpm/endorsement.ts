/**
 * The host's word for the key of a pod: a statement signed in a TPM of the host, of a state that no guest ever talks to
 * (made by stage0, see src/stage0/host-identity.ts). That TPM runs only for the moment of signing.
 */
import { NR_getuid } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { exists, readText } from '../../runtime/linux/files.ts';
import { sleep } from '../../runtime/loop.ts';
import { toHex } from '../../src/tpm/bytes.ts';
import type { PodKeyEndorsement } from '../../src/tpm/evidence.ts';
import { endorsePodKey } from '../../src/tpm/pod-key.ts';
import { reapChild } from '../children.ts';
import { Stage1Error } from '../error.ts';
import { startSwtpm } from './swtpm.ts';
import { TpmBus } from './tpm-bus.ts';

/** From the pod directory; the files' meaning: docs/pod-directory.md. */
const HOST_DIRECTORY = '../../../tpm/host';
const HOST_STATE = `${HOST_DIRECTORY}/state`;
const HOST_USER = 0x6fffffff;
/** One pod at a time has the host's TPM; the others' attempts end at once. */
const ATTEMPTS = 40;
const RETRY_MS = 50;

/** @throws Stage1Error when the host has no key, or its TPM does not answer */
export async function endorse(podKeyName: Uint8Array, uuid: string): Promise<PodKeyEndorsement> {
  if (!exists(HOST_STATE)) throw new Stage1Error('this host has no key yet to vouch for its pods with', 'make it, once: rkt attest init');
  for (let attempt = 1; ; attempt++) {
    try {
      const signed = await sign(podKeyName, uuid);
      return { ...signed, certificatesPem: readText(`${HOST_DIRECTORY}/certificates.pem`), endorsementKeyCertificatesPem: readText(`${HOST_DIRECTORY}/endorsement-key.pem`) };
    } catch (error) {
      if (attempt === ATTEMPTS || !(error instanceof Stage1Error)) throw error;
      await sleep(RETRY_MS);
    }
  }
}

/** As it travels, to programs of the host and into the guest. */
export function endorsementJson({ attest, signature, ...certificates }: PodKeyEndorsement): { attest: string; signature: string; certificatesPem: string; endorsementKeyCertificatesPem: string } {
  return { attest: toHex(attest), signature: toHex(signature), ...certificates };
}

async function sign(podKeyName: Uint8Array, uuid: string): Promise<{ attest: Uint8Array; signature: Uint8Array }> {
  const tpm = startSwtpm(HOST_STATE, sys.call(NR_getuid) === 0 ? HOST_USER : null);
  const bus = new TpmBus(tpm.fd, () => undefined);
  try {
    return await endorsePodKey((command) => bus.transact(command), podKeyName, uuid);
  } finally {
    bus.close();
    close(tpm.errorFd);
    close(tpm.pidfd);
    reapChild(tpm.pid, 0);
  }
}
