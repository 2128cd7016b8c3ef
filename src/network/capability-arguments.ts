/** What a pod can tell plugins that ask for it: CNI conventions, "dynamic plugin specific fields". */
import { quantityUnits } from '../schema/index.ts';
import type { PodManifest } from '../schema/index.ts';
import type { Dns } from './cni/result.ts';
import type { JsonObject } from './cni/configuration.ts';

/** A token bucket has to hold at least a few packets of the largest kind (64 KiB, in bits). */
const MIN_BURST_BITS = 8 * 4 * 65536;
const MAX_BURST_BITS = 2 ** 31 - 1;
const BURST_SECONDS = 0.1;

/** `args`: as given behind the network's name, where `IP=` and `MAC=` are for the plugins that take them as capabilities, too. */
export function capabilityArguments(pod: { manifest: PodManifest; args: string; aliases: readonly string[]; dns: Dns | undefined }): JsonObject {
  const args = new Map(pod.args.split(';').map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
  const [ips, mac, bandwidth] = [args.get('IP'), args.get('MAC'), bandwidthLimit(pod.manifest)];
  return {
    ...(ips === undefined ? {} : { ips: ips.split(',') }),
    ...(mac === undefined ? {} : { mac }),
    ...(pod.aliases.length === 0 ? {} : { aliases: [...pod.aliases] }),
    ...(pod.dns === undefined ? {} : { dns: { servers: pod.dns.nameservers, searches: pod.dns.search, options: pod.dns.options } }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
  };
}

/** The pod is limited when each of its apps is: to the sum (isolator `resource/network-bandwidth`, bits per second). */
function bandwidthLimit(manifest: PodManifest): JsonObject | undefined {
  if (manifest.apps.length === 0) return undefined;
  const limits = manifest.apps.map(({ app }) => {
    const isolator = app?.isolators?.findLast(({ name }) => name === 'resource/network-bandwidth');
    return isolator?.name === 'resource/network-bandwidth' && isolator.value.limit !== undefined ? quantityUnits(isolator.value.limit) : undefined;
  });
  let rate = 0;
  for (const limit of limits) {
    if (limit === undefined) return undefined;
    rate += limit;
  }
  const burst = Math.min(MAX_BURST_BITS, Math.max(MIN_BURST_BITS, Math.round(rate * BURST_SECONDS)));
  return { ingressRate: rate, ingressBurst: burst, egressRate: rate, egressBurst: burst };
}
