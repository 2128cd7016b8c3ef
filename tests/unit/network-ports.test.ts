/** Ports: from manifest to mappings, and keeping those of this host. */
import { closeSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { formatIpAddress, parseIpAddress } from '../../src/linux/ip-address.ts';
import { isIpAddress } from '../../src/schema/ip-address.ts';
import { parseNetworkConfiguration } from '../../src/network/cni/configuration.ts';
import type { ChosenNetwork } from '../../src/network/networks.ts';
import { reservePorts, withPortForwarding } from '../../src/network/port-forwarding.ts';
import { portMappings } from '../../src/network/port-mappings.ts';
import type { ExposedPort, PodManifest, Port } from '../../src/schema/index.ts';

function manifest(ports: ExposedPort[]): PodManifest {
  const app = (own: Port[]): NonNullable<PodManifest['apps'][number]['app']> => ({ exec: ['/x'], user: '0', group: '0', ports: own });
  return {
    acKind: 'PodManifest', acVersion: '0.8.11', ports,
    apps: [
      { name: 'a', image: { id: 'sha512-00' }, app: app([{ name: 'http', protocol: 'tcp', port: 80, count: 1 }, { name: 'range', protocol: 'udp', port: 5000, count: 3 }]) },
      { name: 'b', image: { id: 'sha512-00' }, app: app([{ name: 'sig', protocol: 'SCTP', port: 36412, count: 1 }, { name: 'odd', protocol: 'icmp', port: 1, count: 1 }]) },
    ],
  };
}

t.test('mappings', async (t) => {
  t.strictSame(portMappings(manifest([{ name: 'http', hostPort: 8080 }, { name: 'range', hostPort: 6000, hostIP: '127.0.0.1' }, { name: 'sig', hostPort: 1 }])), [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
    ...[0, 1, 2].map((offset) => ({ hostPort: 6000 + offset, containerPort: 5000 + offset, protocol: 'udp', hostIP: '127.0.0.1' })),
    { hostPort: 1, containerPort: 36412, protocol: 'sctp' },
  ]);
  t.strictSame(portMappings(manifest([{ name: 'x', hostPort: 7, podPort: { name: 'x', protocol: 'tcp', port: 9, count: 1 } }])), [{ hostPort: 7, containerPort: 9, protocol: 'tcp' }], 'a port that no app has');
  t.strictSame(portMappings(manifest([{ name: 'http', hostPort: 80, hostIP: '10.0.0.1' }, { name: 'http', hostPort: 80, hostIP: '10.0.0.2' }])).length, 2);
  for (const [ports, message] of [
    [[{ name: 'https', hostPort: 1 }], 'port name "https" could not be found in any apps'],
    [[{ name: 'odd', hostPort: 1 }], 'port "odd": the protocol "icmp" cannot be forwarded'],
    [[{ name: 'range', hostPort: 65534 }], 'port "range": 3 ports from 65534 on are more than there are'],
    [[{ name: 'http', hostPort: 80 }, { name: 'http', hostPort: 80 }], 'port tcp-0.0.0.0:80 already mapped to pod port 80'],
    [[{ name: 'http', hostPort: 80 }, { name: 'http', hostPort: 80, hostIP: '10.0.0.1' }], 'port tcp-10.0.0.1:80 already mapped to pod port 80'],
  ] as const) t.throws(() => portMappings(manifest([...ports])), { code: 'USAGE', message });
});

t.test('the network that forwards', async (t) => {
  const chosen = (name: string, plugin: Record<string, unknown>): ChosenNetwork => ({ configuration: parseNetworkConfiguration(JSON.stringify({ cniVersion: '1.0.0', name, type: 'ptp', ...plugin }), name), path: null, fileName: name, args: '' });
  const types = ({ networks, forwarding }: ReturnType<typeof withPortForwarding>): unknown => [forwarding.configuration.name, networks.map(({ configuration }) => configuration.plugins.map(({ type }) => type).join('+'))];
  t.strictSame(types(withPortForwarding([chosen('a', {}), chosen('b', { ipMasq: true }), chosen('c', {})])), ['b', ['ptp', 'ptp+portmap', 'ptp']], 'the one that is hidden behind the host');
  t.strictSame(types(withPortForwarding([chosen('a', {}), chosen('b', {})])), ['b', ['ptp', 'ptp+portmap']], 'else the last');
  t.strictSame(types(withPortForwarding([chosen('a', { ipMasq: true }), chosen('b', { capabilities: { portMappings: true } })])), ['b', ['ptp', 'ptp']], 'one that can do it by itself');
  t.throws(() => withPortForwarding([]), /--port flag does not work with 'none' networking/);
});

t.test('ports that are taken', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const taken = (server.address() as AddressInfo).port;
  const udp = createSocket('udp4');
  udp.bind(0, '127.0.0.1');
  t.teardown(() => void udp.close());
  await once(udp, 'listening');

  const mapping = (hostPort: number, protocol: 'tcp' | 'udp', hostIP?: string) => ({ hostPort, containerPort: 80, protocol, ...(hostIP === undefined ? {} : { hostIP }) });
  t.throws(() => reservePorts([mapping(taken, 'tcp')]), { code: 'BUSY', message: `port tcp-0.0.0.0:${taken} is already in use on this host`, hint: /ss -lnp/ });
  t.throws(() => reservePorts([mapping(udp.address().port, 'udp', '127.0.0.1')]), { code: 'BUSY' });
  t.throws(() => reservePorts([mapping(1234, 'tcp', '192.0.2.77')]), { message: /cannot use the port 192\.0\.2\.77:1234/ }, 'an address of somebody else');

  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const free = (other.address() as AddressInfo).port;
  other.close();
  await once(other, 'close');
  const fds = reservePorts([mapping(free, 'tcp', '127.0.0.1')]);
  t.equal(fds.length, 1);
  t.throws(() => reservePorts([mapping(free, 'udp', '127.0.0.1'), mapping(free, 'tcp')]), { code: 'BUSY' }, 'kept from others');
  const refused = createServer().listen(free, '127.0.0.1');
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
  t.equal(error.code, 'EADDRINUSE');
  for (const fd of fds) closeSync(fd);
  for (const fd of reservePorts([mapping(free, 'tcp', '127.0.0.1'), mapping(free, 'udp', '127.0.0.1')])) closeSync(fd);
});

t.test('addresses as text and as bytes', async (t) => {
  for (const [text, shortest] of [['10.0.2.15', '10.0.2.15'], ['fd00:0:0:0::1', 'fd00::1'], ['::', '::'], ['::1', '::1'], ['1:0:0:2:0:0:0:3', '1:0:0:2::3'], ['2001:DB8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'], ['1::', '1::']] as const) {
    t.equal(formatIpAddress(parseIpAddress(text) ?? Buffer.alloc(0)), shortest);
    t.ok(isIpAddress(text), text);
  }
  for (const text of ['', '10.0.2', '10.0.2.256', 'fd00:::1', '1.2.3.4.5', 'g::1', '::1%eth0', '[::1]', '1:2', 'a\0']) {
    t.equal(parseIpAddress(text), undefined, JSON.stringify(text));
    t.notOk(isIpAddress(text), JSON.stringify(text));
  }
});
