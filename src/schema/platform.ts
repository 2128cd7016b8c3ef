/** Names of operating systems and processors: Go's (OCI, Docker) and appc's. */

/** As in an OCI descriptor: values of Go's GOOS and GOARCH. */
export interface Platform {
  os: string;
  architecture: string;
  /** `v6`, `v7`, `v8`: for arm. */
  variant?: string;
}

interface Pair {
  platform: Platform;
  appc: { os: string; arch: string };
}

const PAIRS: readonly Pair[] = [
  pair('linux', 'amd64', 'amd64'),
  pair('linux', '386', 'i386'),
  pair('linux', 'arm64', 'aarch64'),
  pair('linux', 'arm', 'armv6l', 'v6'),
  pair('linux', 'arm', 'armv7l', 'v7'),
  pair('linux', 'arm', 'armv7l'),
  pair('linux', 'ppc64', 'ppc64'),
  pair('linux', 'ppc64le', 'ppc64le'),
  pair('linux', 's390x', 's390x'),
  pair('freebsd', 'amd64', 'amd64'),
  pair('freebsd', '386', 'i386'),
  pair('freebsd', 'arm', 'arm'),
  pair('darwin', 'amd64', 'x86_64'),
  pair('darwin', '386', 'i386'),
];

function pair(os: string, architecture: string, arch: string, variant?: string): Pair {
  return { platform: { os, architecture, ...(variant === undefined ? {} : { variant }) }, appc: { os, arch } };
}

/** The `os` and `arch` labels for a platform, or undefined when appc has no name for it. */
export function appcPlatform(platform: Platform): { os: string; arch: string } | undefined {
  const sameProcessor = PAIRS.filter((entry) => entry.platform.os === platform.os && entry.platform.architecture === platform.architecture);
  const exact = sameProcessor.find((entry) => entry.platform.variant === platform.variant);
  return (exact ?? sameProcessor.find((entry) => entry.platform.variant === undefined))?.appc;
}

/** The platform that `os` and `arch` labels mean, or undefined. */
export function goPlatformOfAppc(os: string, arch: string): Platform | undefined {
  return PAIRS.find((entry) => entry.appc.os === os && entry.appc.arch === arch)?.platform;
}
