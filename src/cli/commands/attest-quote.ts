import { parseEvidence, trusteeEvidence } from '../../attest/index.ts';
import { ensureHostIdentity, hostCaPath } from '../../stage0/host-identity.ts';
import { makeEvidence } from '../../stage0/pod-attestation.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { openPodArgument } from '../pod-argument.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const { values } = input;
  const nonceHex = values.last(flags.nonce);
  if (nonceHex === undefined) throw usage('expected --nonce=HEX: the verifier gives it');
  using pod = openPodArgument(input, context);
  if (pod.state === 'running' && (await ensureHostIdentity(context.dataDir()))) context.reporter.note(`made a key for this host; verifiers need the certificate of its authority: ${hostCaPath(context.dataDir())}`);
  const document = await makeEvidence(pod, { nonceHex, dataHex: values.last(flags.boundData) ?? '' });
  if (values.last(flags.evidenceFormat) === 'trustee') return success({ kind: 'json', value: trusteeEvidence(parseEvidence(document)), pretty: true });
  return success({ kind: 'lines', lines: [document.trimEnd()] });
}
