/** Which image of several is for this machine. */
import { RktError } from '../error.ts';
import { isMediaType } from '../schema/oci.ts';
import type { Descriptor, OciPlatform } from '../schema/oci.ts';
import type { Platform } from '../schema/platform.ts';

/** `process.arch` → GOARCH, where they differ. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** What images must be made for. Pods are Linux whatever the host. */
export function hostPlatform(): Platform {
  return { os: 'linux', architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

export function platformText(platform: OciPlatform): string {
  return [platform.os, platform.architecture, ...(platform.variant === undefined ? [] : [platform.variant])].join('/');
}

/** Variants that every processor of the architecture runs come first. */
const COMMON_VARIANTS: readonly (string | undefined)[] = [undefined, 'v1', 'v8'];

/**
 * The descriptors that can be for the platform, best first. Those without a platform may be anything: they come last.
 * What is neither manifest nor index is left out, as the specification asks.
 */
export function suitableDescriptors(descriptors: readonly Descriptor[], wanted: Platform): Descriptor[] {
  return descriptors
    .filter(({ mediaType }) => isMediaType('manifest', mediaType) || isMediaType('index', mediaType))
    .map((descriptor) => ({ descriptor, rank: rank(descriptor.platform, wanted) }))
    .filter(({ rank }) => rank !== undefined)
    .sort((a, b) => (a.rank ?? 0) - (b.rank ?? 0))
    .map(({ descriptor }) => descriptor);
}

function rank(offered: OciPlatform | undefined, wanted: Platform): number | undefined {
  if (offered === undefined) return 1000;
  if (!samePlatform(offered, wanted)) return undefined;
  if (offered.variant === wanted.variant) return 0;
  const common = COMMON_VARIANTS.indexOf(offered.variant);
  return common === -1 ? 100 : 1 + common;
}

/** A variant counts only when both sides name one and the architecture is 32-bit ARM, where an older processor cannot run the newer. */
export function samePlatform(offered: OciPlatform, wanted: Platform): boolean {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return false;
  return wanted.architecture !== 'arm' || offered.variant === undefined || wanted.variant === undefined || offered.variant <= wanted.variant;
}

export function unsupportedPlatform(origin: string, wanted: Platform, offered: readonly OciPlatform[]): RktError {
  const list = [...new Set(offered.map(platformText))].join(', ');
  return new RktError('UNSUPPORTED', `${origin}: unsupported architecture: ${platformText(wanted)} is needed, the image is for ${list}`);
}
