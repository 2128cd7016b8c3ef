/** A pod that has ended, as the machine gets it that only reads it. */
import { Stage1Error } from '../error.ts';
import { readPod, type Pod } from './directory.ts';

/** Of the writable disk: under its usual name the agent would take it for one to write to. */
export const INSPECTED_SERIAL = 'inspected';

/** The pod with only the one app, its disks and nothing else; without a TPM: nothing is measured. @throws Stage1Error */
export function readInspectedPod(app: string): Pod {
  const pod = readPod();
  const apps = pod.apps.filter(({ app: { name } }) => name === app);
  if (apps.length === 0) throw new Stage1Error(`pod: there is no app "${app}"`);
  return { ...pod, apps: apps.map(({ app: ofPod, disk }) => ({ app: ofPod, disk })), volumes: [], hasTpm: false };
}
