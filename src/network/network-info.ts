/** Entries of `net-info.json`, in rkt's format. */
import { recordName } from './attachment-record.ts';
import type { AttachmentRecord } from './attachment-record.ts';
import type { Result } from './cni/result.ts';

export interface NetworkInfo {
  netName: string;
  /** Relative to the pod directory. */
  netConf: string;
  pluginPath: string;
  ifName: string;
  /** The first IPv4 address. */
  ip: string;
  args: string;
  /** Dotted. */
  mask: string;
  /** The first IPv6 address. rkt had none. */
  ip6?: string;
}

export function networkInfo({ record, result, pluginPath }: { record: AttachmentRecord; result: Result; pluginPath: string | undefined }): NetworkInfo {
  const addresses = result.ips.map(({ address }) => address.split('/'));
  const [ip = '', prefix = '0'] = addresses.find(([address = '']) => !address.includes(':')) ?? [];
  const ip6 = addresses.find(([address = '']) => address.includes(':'))?.[0];
  return {
    netName: record.network.name,
    netConf: recordName(record.attachment.ifName),
    pluginPath: pluginPath ?? '',
    ifName: record.attachment.ifName,
    ip,
    args: record.attachment.args,
    mask: ip === '' ? '' : dottedMask(Number(prefix)),
    ...(ip6 === undefined ? {} : { ip6 }),
  };
}

function dottedMask(prefixBits: number): string {
  return [0, 8, 16, 24].map((shift) => 256 - 2 ** (8 - Math.min(8, Math.max(0, prefixBits - shift)))).join('.');
}
