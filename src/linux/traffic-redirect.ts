/**
 * Everything that arrives at one interface leaves through another: an ingress queueing discipline, one u32 filter that
 * matches all, the action `mirred egress redirect` (tc-mirred(8)). Layouts: linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h.
 */
import { systemCallError } from './libc.ts';
import { attribute, cString, uint32 } from './netlink.ts';
import type { Netlink } from './netlink.ts';

const RTM_NEWQDISC = 36;
const RTM_NEWTFILTER = 44;
const NLM_F_CREATE_NEW = 0x600;
const INGRESS_PARENT = 0xffff_fff1;
const INGRESS_HANDLE = 0xffff_0000;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_U32_SEL = 5;
const TCA_U32_ACT = 7;
const TCA_ACT_KIND = 1;
const TCA_ACT_OPTIONS = 2;
const TCA_MIRRED_PARMS = 2;
const TC_U32_TERMINAL = 1;
const TC_ACT_STOLEN = 4;
const TCA_EGRESS_REDIR = 1;
const FIRST_PRIORITY = 1;
/** ETH_P_ALL in network byte order. */
const ALL_PROTOCOLS = 0x0300;
/** What the kernel says when it has no such discipline, filter or action. */
const UNSUPPORTED = [2 /* ENOENT */, 22 /* EINVAL */, 95 /* EOPNOTSUPP */];
const EEXIST = 17;

/** False: this kernel cannot, and nothing was changed that matters. */
export function redirectTraffic(netlink: Netlink, { fromIndex, toIndex }: { fromIndex: number; toIndex: number }): boolean {
  const discipline = netlink.attempt({
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE_NEW,
    body: Buffer.concat([trafficHeader({ linkIndex: fromIndex, handle: INGRESS_HANDLE, parent: INGRESS_PARENT, info: 0 }), attribute(TCA_KIND, cString('ingress'))]),
  });
  // One that is there already takes our filter as well.
  if (UNSUPPORTED.includes(discipline.errno)) return false;
  if (discipline.errno !== 0 && discipline.errno !== EEXIST) throw systemCallError('cannot redirect traffic', discipline.errno);

  const mirred = attribute(TCA_MIRRED_PARMS, redirectAction(toIndex));
  const action = attribute(1, Buffer.concat([attribute(TCA_ACT_KIND, cString('mirred')), attribute(TCA_ACT_OPTIONS, mirred)]));
  const options = Buffer.concat([attribute(TCA_U32_SEL, matchAll()), attribute(TCA_U32_ACT, action)]);
  const filter = netlink.attempt({
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE_NEW,
    body: Buffer.concat([
      trafficHeader({ linkIndex: fromIndex, handle: 0, parent: INGRESS_HANDLE, info: ((FIRST_PRIORITY << 16) | ALL_PROTOCOLS) >>> 0 }),
      attribute(TCA_KIND, cString('u32')),
      attribute(TCA_OPTIONS, options),
    ]),
  });
  if (UNSUPPORTED.includes(filter.errno)) return false;
  if (filter.errno !== 0) throw systemCallError('cannot redirect traffic', filter.errno);
  return true;
}

/** struct tcmsg */
function trafficHeader(fields: { linkIndex: number; handle: number; parent: number; info: number }): Buffer {
  const header = Buffer.alloc(8);
  header.writeInt32LE(fields.linkIndex, 4);
  return Buffer.concat([header, uint32(fields.handle), uint32(fields.parent), uint32(fields.info)]);
}

/** struct tc_u32_sel with one key whose mask is empty. */
function matchAll(): Buffer {
  const selector = Buffer.alloc(16 + 16);
  selector.writeUInt8(TC_U32_TERMINAL, 0);
  selector.writeUInt8(1, 2);
  return selector;
}

/** struct tc_mirred */
function redirectAction(toIndex: number): Buffer {
  const parameters = Buffer.alloc(28);
  parameters.writeInt32LE(TC_ACT_STOLEN, 8);
  parameters.writeInt32LE(TCA_EGRESS_REDIR, 20);
  parameters.writeUInt32LE(toIndex, 24);
  return parameters;
}
