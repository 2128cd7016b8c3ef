import t from 'tap';
import { hostPlatform } from '../../src/image/index.ts';
import { samePlatform, suitableDescriptors } from '../../src/image/platform.ts';
import type { Descriptor, OciPlatform } from '../../src/schema/oci.ts';
import { appcPlatform, goPlatformOfAppc } from '../../src/schema/index.ts';

function descriptor(size: number, platform: OciPlatform | undefined, mediaType = 'application/vnd.oci.image.manifest.v1+json'): Descriptor {
  return { mediaType, digest: `sha256:${'0'.repeat(64)}`, size, ...(platform === undefined ? {} : { platform }) };
}

t.test('the best fitting come first', async (t) => {
  const wanted = { os: 'linux', architecture: 'amd64' };
  const offered = [
    descriptor(1, undefined),
    descriptor(2, { os: 'linux', architecture: 'arm64' }),
    descriptor(3, { os: 'linux', architecture: 'amd64', variant: 'v3' }),
    descriptor(4, { os: 'linux', architecture: 'amd64' }),
    descriptor(5, { os: 'windows', architecture: 'amd64' }),
    descriptor(6, { os: 'linux', architecture: 'amd64' }, 'application/x-surprise'),
    descriptor(7, { os: 'unknown', architecture: 'unknown' }),
    descriptor(8, { os: 'linux', architecture: 'amd64', variant: 'v1' }, 'application/vnd.oci.image.index.v1+json'),
  ];
  t.strictSame(suitableDescriptors(offered, wanted).map(({ size }) => size), [4, 8, 3, 1]);
});

t.test('variants of 32-bit ARM matter', async (t) => {
  const arm = (variant?: string): OciPlatform => ({ os: 'linux', architecture: 'arm', ...(variant === undefined ? {} : { variant }) });
  t.ok(samePlatform(arm('v6'), arm('v7')));
  t.notOk(samePlatform(arm('v7'), arm('v6')));
  t.ok(samePlatform(arm(), arm('v6')));
  t.ok(samePlatform({ os: 'linux', architecture: 'arm64', variant: 'v8' }, { os: 'linux', architecture: 'arm64' }));
});

t.test('names of appc and Go go to each other', async (t) => {
  for (const arch of ['amd64', 'i386', 'aarch64', 'armv6l', 'armv7l', 'ppc64', 'ppc64le', 's390x']) {
    const platform = goPlatformOfAppc('linux', arch);
    t.strictSame(platform && appcPlatform(platform), { os: 'linux', arch });
  }
  t.equal(goPlatformOfAppc('linux', 'aarch64_be'), undefined);
  t.equal(appcPlatform({ os: 'linux', architecture: 'riscv64' }), undefined);
  t.not(appcPlatform(hostPlatform()), undefined);
});
