/** What is measured of a pod's start, from the very message the agent then acts on. */
import { NATIVE_HASHES } from '../../runtime/linux/hashes.ts';
import type { JsonObject } from '../../src/tpm/canonical-json.ts';
import { launchMeasurements, type PodDisk } from '../../src/tpm/measured-manifest.ts';
import type { Measurement } from '../../src/tpm/measurements.ts';
import type { StartMessage } from '../messages.ts';

/** @throws RktError when manifest and disks do not belong together */
export function measurementsOf(start: StartMessage): Measurement[] {
  const manifest = JSON.parse(start.podManifest) as JsonObject;
  const imageIds = imageIdsOf(manifest);
  const disks = start.apps.map(({ name, disk }): PodDisk => ({ app: name, imageId: imageIds.get(name) ?? '', rootHash: disk.rootHashHex }));
  const insecureOptions = Object.entries(start.insecure).flatMap(([name, isOff]) => (isOff ? [name] : []));
  return launchMeasurements({ manifest, disks, policy: { sealed: start.sealed, insecureOptions } }, NATIVE_HASHES.sha256);
}

function imageIdsOf({ apps }: JsonObject): Map<string, string> {
  const list = Array.isArray(apps) ? (apps as readonly { name?: unknown; image?: { id?: unknown } }[]) : [];
  return new Map(list.map(({ name, image }) => [String(name), String(image?.id)]));
}
