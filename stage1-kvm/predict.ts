/**
 * `predict` with the arguments of `run`: what would be measured of the pod, without starting anything. Prints the input of
 * `predict` in src/attest as JSON.
 */
import { exit } from '../runtime/linux/process.ts';
import { parseRunArguments } from './options.ts';
import { planPod } from './launch.ts';
import { print } from './report.ts';
import { rootHashOf } from './pod/directory.ts';
import { hostFacts } from './tpm/host-facts.ts';

export function predict(args: readonly string[]): never {
  const options = parseRunArguments(args);
  const plan = planPod(options);
  const { pod } = plan;
  const disks = pod.apps.map((root) => ({ app: root.app.name, imageId: root.app.imageId, rootHash: rootHashOf(root) }));
  print(1, `${JSON.stringify({ host: { ...hostFacts(plan, pod.manifest, options), uuid: null }, disks })}\n`);
  exit(0);
}
