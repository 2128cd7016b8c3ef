import { readLastEvidence } from '../../stage0/pod-attestation.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { openPodArgument } from '../pod-argument.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export function run(input: ArgumentInput, context: CommandContext): Outcome {
  using pod = openPodArgument(input, context);
  return success({ kind: 'lines', lines: [readLastEvidence(pod).trimEnd()] });
}
