/** rtnetlink: network devices, addresses, routes, neighbours. */
import {
  AF_INET, AF_INET6, AF_NETLINK, IFA_ADDRESS, IFA_F_NODAD, IFA_F_NOPREFIXROUTE, IFA_FLAGS, IFA_LOCAL, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, NDA_DST, NDA_LLADDR, NETLINK_ROUTE, NLM_F_ACK, NLM_F_CREATE,
  NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NUD_PERMANENT, RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY,
  RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE, RTN_UNICAST, RTPROT_BOOT, SOCK_RAW, ifaddrmsg_ifa_family, ifaddrmsg_ifa_index,
  ifaddrmsg_ifa_prefixlen, ifaddrmsg_ifa_scope, ifinfomsg_ifi_change, ifinfomsg_ifi_flags, ifinfomsg_ifi_index, ndmsg_ndm_family, ndmsg_ndm_ifindex, ndmsg_ndm_state, nlmsghdr_nlmsg_flags, nlmsghdr_nlmsg_len,
  nlmsghdr_nlmsg_seq, nlmsghdr_nlmsg_type, rtmsg_rtm_dst_len, rtmsg_rtm_family, rtmsg_rtm_protocol, rtmsg_rtm_scope, rtmsg_rtm_table, rtmsg_rtm_type, sizeof_ifaddrmsg,
  sizeof_ifinfomsg, sizeof_ndmsg, sizeof_nlmsghdr, sizeof_rtattr, sizeof_rtmsg,
} from '../abi.gen.ts';
import { check, SysError } from './errors.ts';
import { close, read, writeAll } from './fds.ts';
import { socket } from './sockets.ts';

export interface Link {
  index: number;
  name: string;
  /** Lower-case colon form; empty for a device without one. */
  mac: string;
  flags: number;
}

/** 4 bytes (IPv4) or 16 (IPv6). */
export type IpAddress = Uint8Array;

export interface Route {
  linkIndex: number;
  /** Length 0 bits is the default route. */
  destination: { address: IpAddress; prefixBits: number };
  gateway?: IpAddress;
  /** Address that packets by this route carry. */
  source?: IpAddress;
  /** Of two routes to one destination the lower one counts. */
  metric?: number;
}

interface Attribute {
  type: number;
  value: Uint8Array;
}

interface Reply {
  type: number;
  body: Uint8Array;
}

export class Netlink {
  readonly #fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  #sequence = 0;

  close(): void {
    close(this.#fd);
  }

  links(): Link[] {
    return this.#request({ type: RTM_GETLINK, flags: NLM_F_DUMP, body: new Uint8Array(sizeof_ifinfomsg) }).map(parseLink);
  }

  /** Changes what is given. A device must be down to be renamed. */
  setLink(index: number, change: { up?: boolean; name?: string; mtu?: number }): void {
    const header = new Uint8Array(sizeof_ifinfomsg);
    const view = new DataView(header.buffer);
    view.setInt32(ifinfomsg_ifi_index, index, true);
    if (change.up !== undefined) {
      view.setUint32(ifinfomsg_ifi_flags, change.up ? IFF_UP : 0, true);
      view.setUint32(ifinfomsg_ifi_change, IFF_UP, true);
    }
    const attributes: Attribute[] = [];
    if (change.name !== undefined) attributes.push({ type: IFLA_IFNAME, value: sys.utf8(change.name) });
    if (change.mtu !== undefined) attributes.push({ type: IFLA_MTU, value: u32(change.mtu) });
    this.#request({ type: RTM_NEWLINK, flags: 0, body: withAttributes(header, attributes) });
  }

  /** IPv6 addresses are usable at once: there is nobody to collide with, so no duplicate detection. No route comes with them. */
  addAddress(linkIndex: number, address: IpAddress, options: { prefixBits: number; loopback?: boolean }): void {
    const header = new Uint8Array(sizeof_ifaddrmsg);
    header[ifaddrmsg_ifa_family] = family(address);
    header[ifaddrmsg_ifa_prefixlen] = options.prefixBits;
    header[ifaddrmsg_ifa_scope] = options.loopback ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
    new DataView(header.buffer).setUint32(ifaddrmsg_ifa_index, linkIndex, true);
    const flags = IFA_F_NOPREFIXROUTE | (address.length === 16 ? IFA_F_NODAD : 0);
    // More flags than the header has room for.
    const attributes = [{ type: IFA_LOCAL, value: address }, { type: IFA_ADDRESS, value: address }, { type: IFA_FLAGS, value: u32(flags) }];
    this.#request({ type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_REPLACE, body: withAttributes(header, attributes) });
  }

  addRoute(route: Route): void {
    const header = new Uint8Array(sizeof_rtmsg);
    const { address, prefixBits } = route.destination;
    header[rtmsg_rtm_family] = family(address);
    header[rtmsg_rtm_dst_len] = prefixBits;
    header[rtmsg_rtm_table] = RT_TABLE_MAIN;
    header[rtmsg_rtm_protocol] = RTPROT_BOOT;
    header[rtmsg_rtm_scope] = route.gateway === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    header[rtmsg_rtm_type] = RTN_UNICAST;
    const attributes: Attribute[] = [{ type: RTA_OIF, value: u32(route.linkIndex) }];
    if (prefixBits > 0) attributes.push({ type: RTA_DST, value: address });
    if (route.gateway !== undefined) attributes.push({ type: RTA_GATEWAY, value: route.gateway });
    if (route.source !== undefined) attributes.push({ type: RTA_PREFSRC, value: route.source });
    if (route.metric !== undefined) attributes.push({ type: RTA_PRIORITY, value: u32(route.metric) });
    this.#request({ type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_REPLACE, body: withAttributes(header, attributes) });
  }

  /** A neighbour that is never asked for. */
  addNeighbour(linkIndex: number, address: IpAddress, mac: Uint8Array): void {
    const header = new Uint8Array(sizeof_ndmsg);
    const view = new DataView(header.buffer);
    header[ndmsg_ndm_family] = family(address);
    view.setInt32(ndmsg_ndm_ifindex, linkIndex, true);
    view.setUint16(ndmsg_ndm_state, NUD_PERMANENT, true);
    const attributes = [{ type: NDA_DST, value: address }, { type: NDA_LLADDR, value: mac }];
    this.#request({ type: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, body: withAttributes(header, attributes) });
  }

  #request({ type, flags, body }: { type: number; flags: number; body: Uint8Array }): Reply[] {
    const message = new Uint8Array(sizeof_nlmsghdr + body.length);
    const view = new DataView(message.buffer);
    view.setUint32(nlmsghdr_nlmsg_len, message.length, true);
    view.setUint16(nlmsghdr_nlmsg_type, type, true);
    view.setUint16(nlmsghdr_nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK | flags, true);
    view.setUint32(nlmsghdr_nlmsg_seq, ++this.#sequence, true);
    message.set(body, sizeof_nlmsghdr);
    writeAll(this.#fd, message);
    return this.#replies();
  }

  #replies(): Reply[] {
    const replies: Reply[] = [];
    for (;;) {
      const buffer = new Uint8Array(16384);
      const view = new DataView(buffer.buffer);
      const length = read(this.#fd, buffer);
      for (let offset = 0; offset + sizeof_nlmsghdr <= length; ) {
        const size = view.getUint32(offset + nlmsghdr_nlmsg_len, true);
        const type = view.getUint16(offset + nlmsghdr_nlmsg_type, true);
        const body = buffer.subarray(offset + sizeof_nlmsghdr, offset + size);
        if (type === NLMSG_DONE) return replies;
        if (type === NLMSG_ERROR) {
          check(view.getInt32(offset + sizeof_nlmsghdr, true), 'netlink');
          return replies;
        }
        replies.push({ type, body });
        offset += (size + 3) & ~3;
      }
    }
  }
}

function parseLink({ body }: Reply): Link {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const link: Link = { index: view.getInt32(ifinfomsg_ifi_index, true), name: '', mac: '', flags: view.getUint32(ifinfomsg_ifi_flags, true) };
  for (let offset = sizeof_ifinfomsg; offset + sizeof_rtattr <= body.length; ) {
    const size = view.getUint16(offset, true);
    if (size < sizeof_rtattr) break;
    const value = body.subarray(offset + sizeof_rtattr, offset + size);
    const type = view.getUint16(offset + 2, true);
    if (type === IFLA_IFNAME) link.name = sys.text(value.subarray(0, -1));
    if (type === IFLA_ADDRESS) link.mac = Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join(':');
    offset += (size + 3) & ~3;
  }
  return link;
}

function withAttributes(header: Uint8Array, attributes: readonly Attribute[]): Uint8Array {
  const padded = (size: number): number => (size + 3) & ~3;
  const total = attributes.reduce((sum, { value }) => sum + padded(sizeof_rtattr + value.length), header.length);
  const body = new Uint8Array(total);
  const view = new DataView(body.buffer);
  body.set(header);
  let offset = header.length;
  for (const { type, value } of attributes) {
    view.setUint16(offset, sizeof_rtattr + value.length, true);
    view.setUint16(offset + 2, type, true);
    body.set(value, offset + sizeof_rtattr);
    offset += padded(sizeof_rtattr + value.length);
  }
  return body;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

const family = (address: IpAddress): number => (address.length === 4 ? AF_INET : AF_INET6);

/** Four bytes from `10.0.2.15`, sixteen from any IPv6 form. SysError EINVAL for anything else. */
export function parseIp(text: string): IpAddress {
  const address = text.includes(':') ? parseIpv6(text) : parseIpv4(text);
  if (address === undefined) throw new SysError(`IP address "${text}"`, 22);
  return address;
}

function parseIpv4(text: string): IpAddress | undefined {
  const parts = text.split('.').map((part) => decimal(part, 255));
  return parts.length === 4 && parts.every((part) => part >= 0) ? new Uint8Array(parts) : undefined;
}

function parseIpv6(text: string): IpAddress | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const groups = halves.map((half) => (half === '' ? [] : half.split(':').flatMap(ipv6Group)));
  const head = groups[0] ?? [];
  const tail = groups[1] ?? [];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const words = [...head, ...Array.from({ length: missing }, () => 0), ...tail];
  if (words.some((word) => Number.isNaN(word))) return undefined;
  return new Uint8Array(words.flatMap((word) => [word >> 8, word & 255]));
}

/** One 16-bit word, or two for an embedded IPv4 address; NaN for what is neither. */
function ipv6Group(group: string): number[] {
  if (group.includes('.')) {
    const [a, b, c, d] = parseIpv4(group) ?? [];
    return a === undefined || b === undefined || c === undefined || d === undefined ? [NaN] : [(a << 8) | b, (c << 8) | d];
  }
  const valid = group.length >= 1 && group.length <= 4 && [...group].every((digit) => '0123456789abcdefABCDEF'.includes(digit));
  return [valid ? Number.parseInt(group, 16) : NaN];
}

/** -1 for anything but 1 to 3 digits of at most `max`. */
function decimal(text: string, max: number): number {
  if (text.length < 1 || text.length > 3 || ![...text].every((digit) => digit >= '0' && digit <= '9')) return -1;
  const value = Number(text);
  return value <= max ? value : -1;
}

/** Six bytes from the colon form. SysError EINVAL for anything else. */
export function parseMac(text: string): Uint8Array {
  const bytes = text.split(':').map((part) => (part.length === 2 && [...part].every((digit) => '0123456789abcdefABCDEF'.includes(digit)) ? Number.parseInt(part, 16) : NaN));
  if (bytes.length !== 6 || bytes.some((byte) => Number.isNaN(byte))) throw new SysError(`MAC address "${text}"`, 22);
  return new Uint8Array(bytes);
}

/** `10.0.2.15/24` → address and prefix; without a prefix the whole address. */
export function parseCidr(text: string): { address: IpAddress; prefixBits: number } {
  const slash = text.indexOf('/');
  const address = parseIp(slash < 0 ? text : text.slice(0, slash));
  const max = address.length * 8;
  const prefixBits = slash < 0 ? max : decimal(text.slice(slash + 1), max);
  if (prefixBits < 0) throw new SysError(`prefix length of "${text}"`, 22);
  return { address, prefixBits };
}
