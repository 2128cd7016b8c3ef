/**
 * rtnetlink(7): network devices, addresses, routes, neighbours of one network namespace. Numbers and layouts are those of
 * linux/netlink.h, linux/rtnetlink.h, linux/if_link.h.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { RktError } from '../error.ts';
import { AF_INET, formatIpAddress } from './ip-address.ts';
import { callInts, systemCallError } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_ROUTE = 0;

const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_HEADER_BYTES = 16;
const READ_BYTES = 64 * 1024;

const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const RTM_GETNEIGH = 30;

const IFINFOMSG_BYTES = 16;
const IFF_UP = 1;
const IFLA = { address: 1, name: 3, mtu: 4, link: 5, master: 10, linkInfo: 18, stats64: 23 } as const;
const IFLA_INFO = { kind: 1, data: 2 } as const;
const IFLA_MACVLAN_MODE = 1;
const MACVLAN_MODE_PASSTHRU = 8;

const IFADDRMSG_BYTES = 8;
const IFA = { address: 1, local: 2 } as const;
const RTMSG_BYTES = 12;
const RTA = { destination: 1, outputInterface: 4, gateway: 5, priority: 6, preferredSource: 7, table: 15 } as const;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;
const NDMSG_BYTES = 12;
const NDA = { destination: 1, linkAddress: 2 } as const;
const NUD_PERMANENT = 0x80;
const LINK_LOCAL_SCOPE = 253;

export interface LinkCounters {
  receivedBytes: bigint;
  receivedPackets: bigint;
  receivedErrors: bigint;
  receivedDropped: bigint;
  sentBytes: bigint;
  sentPackets: bigint;
  sentErrors: bigint;
  sentDropped: bigint;
}

export interface Link {
  index: number;
  name: string;
  /** Lower-case colon form; empty for a device without one. */
  mac: string;
  mtu: number;
  /** `veth`, `macvlan`, …; empty for hardware and the loopback. */
  kind: string;
  isUp: boolean;
  counters?: LinkCounters;
}

export interface LinkAddress {
  /** 4 or 16 bytes. */
  address: Buffer;
  prefixBits: number;
  isLinkLocal: boolean;
}

export interface Route {
  /** `10.0.0.0/8`; the default route is `0.0.0.0/0` or `::/0`. */
  destination: string;
  gateway?: string;
  source?: string;
  /** Absent: the kernel's own choice. */
  metric?: number;
}

export interface Neighbour {
  address: string;
  mac: string;
}

export type NewLink = { kind: 'bridge'; name: string } | { kind: 'macvtap'; name: string; lowerIndex: number };

export interface NetlinkMessage {
  type: number;
  flags: number;
  body: Buffer;
}

/** A socket of the namespace in which it was opened, wherever this thread is afterwards. */
export class Netlink {
  readonly #fd: number;
  #sequence = 0;

  constructor() {
    const { value, errno } = callInts('socket', AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE);
    if (value === -1) throw systemCallError('cannot open a netlink socket', errno);
    this.#fd = value;
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  links(): Link[] {
    return this.#dump('cannot list network interfaces', RTM_GETLINK, IFINFOMSG_BYTES).map(parseLink);
  }

  /** Throws RktError NOT_FOUND. */
  link(name: string): Link {
    const found = this.links().find((candidate) => candidate.name === name);
    if (found === undefined) throw new RktError('NOT_FOUND', `there is no network interface ${name}`);
    return found;
  }

  /** Changes what is given. A device must be down to be renamed, and so must some for a new MAC address. */
  setLink(index: number, change: { isUp?: boolean; mac?: string; masterIndex?: number }): void {
    const header = linkHeader(index);
    if (change.isUp !== undefined) {
      header.writeUInt32LE(change.isUp ? IFF_UP : 0, 8);
      header.writeUInt32LE(IFF_UP, 12);
    }
    const attributes: Buffer[] = [];
    if (change.mac !== undefined) attributes.push(attribute(IFLA.address, macBytes(change.mac)));
    if (change.masterIndex !== undefined) attributes.push(attribute(IFLA.master, uint32(change.masterIndex)));
    this.request(`cannot change the network interface ${index}`, { type: RTM_NEWLINK, flags: 0, body: Buffer.concat([header, ...attributes]) });
  }

  addLink(link: NewLink): void {
    const info = [attribute(IFLA_INFO.kind, cString(link.kind))];
    const attributes = [attribute(IFLA.name, cString(link.name))];
    if (link.kind === 'macvtap') {
      info.push(attribute(IFLA_INFO.data, attribute(IFLA_MACVLAN_MODE, uint32(MACVLAN_MODE_PASSTHRU))));
      attributes.push(attribute(IFLA.link, uint32(link.lowerIndex)));
    }
    attributes.push(attribute(IFLA.linkInfo, Buffer.concat(info)));
    const body = Buffer.concat([linkHeader(0), ...attributes]);
    this.request(`cannot make a network interface of kind ${link.kind}`, { type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body });
  }

  addresses(linkIndex: number): LinkAddress[] {
    return this.#dump('cannot list addresses', RTM_GETADDR, IFADDRMSG_BYTES)
      .filter((body) => body.readUInt32LE(4) === linkIndex)
      .flatMap((body) => {
        const attributes = parseAttributes(body, IFADDRMSG_BYTES);
        const address = attributes.get(IFA.local) ?? attributes.get(IFA.address);
        return address === undefined ? [] : [{ address, prefixBits: body.readUInt8(1), isLinkLocal: body.readUInt8(3) === LINK_LOCAL_SCOPE }];
      });
  }

  /** Unicast routes of the main table that lead through this device by one way; those of IPv6 link-local addresses are left out. */
  routes(linkIndex: number): Route[] {
    return this.#dump('cannot list routes', RTM_GETROUTE, RTMSG_BYTES).flatMap((body) => parseRoute(body, linkIndex) ?? []);
  }

  /** Neighbours that somebody has entered for good. */
  permanentNeighbours(linkIndex: number): Neighbour[] {
    return this.#dump('cannot list neighbours', RTM_GETNEIGH, NDMSG_BYTES)
      .filter((body) => body.readInt32LE(4) === linkIndex && (body.readUInt16LE(8) & NUD_PERMANENT) !== 0)
      .flatMap((body) => {
        const attributes = parseAttributes(body, NDMSG_BYTES);
        const [address, mac] = [attributes.get(NDA.destination), attributes.get(NDA.linkAddress)];
        return address === undefined || mac?.length !== 6 ? [] : [{ address: formatIpAddress(address), mac: macText(mac) }];
      });
  }

  /** Throws the kernel's answer, if it is an error, as an RktError `WHAT: REASON`. */
  request(what: string, message: NetlinkMessage): void {
    const { errno } = this.attempt(message);
    if (errno !== 0) throw systemCallError(what, errno);
  }

  /** `errno` is 0 when the kernel did what was asked. */
  attempt(message: NetlinkMessage): { errno: number; replies: Buffer[] } {
    const header = Buffer.alloc(NLMSG_HEADER_BYTES);
    header.writeUInt32LE(NLMSG_HEADER_BYTES + message.body.length, 0);
    header.writeUInt16LE(message.type, 4);
    header.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK | message.flags, 6);
    header.writeUInt32LE(++this.#sequence, 8);
    writeSync(this.#fd, Buffer.concat([header, message.body]));
    return this.#answer();
  }

  #dump(what: string, type: number, headerBytes: number): Buffer[] {
    const { errno, replies } = this.attempt({ type, flags: NLM_F_DUMP, body: Buffer.alloc(headerBytes) });
    if (errno !== 0) throw systemCallError(what, errno);
    return replies;
  }

  #answer(): { errno: number; replies: Buffer[] } {
    const replies: Buffer[] = [];
    for (;;) {
      const buffer = Buffer.alloc(READ_BYTES);
      const lengthBytes = readSync(this.#fd, buffer);
      for (let offset = 0; offset + NLMSG_HEADER_BYTES <= lengthBytes; ) {
        const sizeBytes = buffer.readUInt32LE(offset);
        const type = buffer.readUInt16LE(offset + 4);
        const body = buffer.subarray(offset + NLMSG_HEADER_BYTES, offset + sizeBytes);
        if (type === NLMSG_DONE) return { errno: 0, replies };
        if (type === NLMSG_ERROR) return { errno: -body.readInt32LE(0), replies };
        replies.push(body);
        offset += aligned(sizeBytes);
      }
    }
  }
}

function parseLink(body: Buffer): Link {
  const attributes = parseAttributes(body, IFINFOMSG_BYTES);
  const kind = parseAttributes(attributes.get(IFLA.linkInfo) ?? Buffer.alloc(0), 0).get(IFLA_INFO.kind);
  const link: Link = {
    index: body.readInt32LE(4),
    name: textOf(attributes.get(IFLA.name)),
    mac: macText(attributes.get(IFLA.address) ?? Buffer.alloc(0)),
    mtu: attributes.get(IFLA.mtu)?.readUInt32LE(0) ?? 0,
    kind: textOf(kind),
    isUp: (body.readUInt32LE(8) & IFF_UP) !== 0,
  };
  const stats = attributes.get(IFLA.stats64);
  return stats === undefined ? link : { ...link, counters: parseCounters(stats) };
}

/** struct rtnl_link_stats64 */
function parseCounters(stats: Buffer): LinkCounters {
  const at = (index: number): bigint => stats.readBigUInt64LE(index * 8);
  return {
    receivedPackets: at(0), sentPackets: at(1), receivedBytes: at(2), sentBytes: at(3),
    receivedErrors: at(4), sentErrors: at(5), receivedDropped: at(6), sentDropped: at(7),
  };
}

function parseRoute(body: Buffer, linkIndex: number): Route | undefined {
  const attributes = parseAttributes(body, RTMSG_BYTES);
  const table = attributes.get(RTA.table)?.readUInt32LE(0) ?? body.readUInt8(4);
  if (table !== RT_TABLE_MAIN || body.readUInt8(7) !== RTN_UNICAST || attributes.get(RTA.outputInterface)?.readUInt32LE(0) !== linkIndex) return undefined;
  const prefixBits = body.readUInt8(1);
  const any = body.readUInt8(0) === AF_INET ? '0.0.0.0' : '::';
  const destination = attributes.get(RTA.destination);
  const text = destination === undefined ? any : formatIpAddress(destination);
  if (text.startsWith('fe80:') || text.startsWith('ff')) return undefined;
  const [gateway, source, metric] = [attributes.get(RTA.gateway), attributes.get(RTA.preferredSource), attributes.get(RTA.priority)?.readUInt32LE(0)];
  return {
    destination: `${text}/${prefixBits}`,
    ...(gateway === undefined ? {} : { gateway: formatIpAddress(gateway) }),
    ...(source === undefined ? {} : { source: formatIpAddress(source) }),
    ...(metric === undefined ? {} : { metric }),
  };
}

function linkHeader(index: number): Buffer {
  const header = Buffer.alloc(IFINFOMSG_BYTES);
  header.writeInt32LE(index, 4);
  return header;
}

/** Type-length-value, padded to four bytes. Nested attributes are one value. */
export function attribute(type: number, value: Buffer): Buffer {
  const bytes = Buffer.alloc(aligned(4 + value.length));
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  value.copy(bytes, 4);
  return bytes;
}

function parseAttributes(bytes: Buffer, start: number): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>();
  for (let offset = start; offset + 4 <= bytes.length; ) {
    const sizeBytes = bytes.readUInt16LE(offset);
    if (sizeBytes < 4) break;
    // The two highest bits say how the value is built, which is known.
    attributes.set(bytes.readUInt16LE(offset + 2) & 0x3fff, bytes.subarray(offset + 4, offset + sizeBytes));
    offset += aligned(sizeBytes);
  }
  return attributes;
}

export function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

function textOf(bytes: Buffer | undefined): string {
  return bytes === undefined ? '' : bytes.subarray(0, -1).toString();
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function macText(bytes: Buffer): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

function aligned(sizeBytes: number): number {
  return (sizeBytes + 3) & ~3;
}
