/** Flags of mutable pods. */
import type { ExposedPort, Volume } from '../../schema/index.ts';
import { isIpAddress } from '../../schema/ip-address.ts';
import { isACName } from '../../schema/names.ts';
import { volume, wholeNumber } from './values.ts';

/** A volume and where it is mounted. */
export interface AppVolume {
  volume: Volume;
  path: string;
}

/** `name=NAME,kind=empty|host,target=PATH[,…]`: `target`, and what `--volume` takes. */
export function appVolume(value: string): AppVolume {
  const parts = value.split(',');
  const take = (key: string): string => {
    const found = parts.filter((part) => part.startsWith(`${key}=`));
    if (found.length !== 1) throw new Error(`expected ${key}=… once`);
    parts.splice(parts.indexOf(found[0] ?? ''), 1);
    return (found[0] ?? '').slice(key.length + 1);
  };
  const [name, path] = [take('name'), take('target')];
  if (!path.startsWith('/')) throw new Error('target must be an absolute path');
  return { volume: volume([name, ...parts].join(',')), path };
}

/** `NAME:PROTOCOL:PODPORT:HOSTIP:HOSTPORT`: the pod has no apps yet that could name its ports. */
export function sandboxPort(value: string): ExposedPort {
  const [name = '', protocol = '', podPort = '', ...rest] = value.split(':');
  const hostPort = rest.pop();
  const hostIP = rest.join(':').replace(/^\[(.*)\]$/, '$1');
  if (!isACName(name) || hostPort === undefined) throw new Error('expected NAME:PROTOCOL:PODPORT:HOSTIP:HOSTPORT');
  if (protocol !== 'tcp' && protocol !== 'udp') throw new Error(`invalid protocol ${JSON.stringify(protocol)}`);
  if (!isIpAddress(hostIP)) throw new Error(`could not parse IP ${JSON.stringify(hostIP)}`);
  const port = wholeNumber(1, 65535);
  return { name, hostPort: port(hostPort), hostIP, podPort: { name, protocol, port: port(podPort), count: 1, socketActivated: false } };
}
