/** Messages of the vhost-user control channel (QEMU docs/interop/vhost-user.rst), as far as QEMU sends them to a vsock device. */
import { GuestFault } from './guest-memory.ts';

export const MESSAGE_HEADER_BYTES = 12;
/** The largest message this device understands is a memory table of 8 regions. */
export const MAX_PAYLOAD_BYTES = 512;
export const MAX_REGIONS = 8;

const VERSION = 1;
const FLAG_VERSION_MASK = 3;
const FLAG_REPLY = 4;
const FLAG_NEED_REPLY = 8;
/** SET_VRING_KICK and SET_VRING_CALL: no descriptor comes with the message. */
const VRING_NO_FD = 0x100;

export interface SharedRegion {
  guestAddress: number;
  sizeBytes: number;
  userAddress: number;
  /** Where the region begins in its file. */
  fileOffset: number;
}

export type VhostUserRequest =
  | { type: 'get-features' }
  | { type: 'set-features'; features: bigint }
  | { type: 'get-protocol-features' }
  | { type: 'set-protocol-features'; features: bigint }
  | { type: 'set-owner' }
  | { type: 'reset-owner' }
  | { type: 'set-mem-table'; regions: SharedRegion[] }
  | { type: 'set-vring-num'; queue: number; value: number }
  | { type: 'set-vring-base'; queue: number; value: number }
  | { type: 'get-vring-base'; queue: number }
  | { type: 'set-vring-addr'; queue: number; descriptor: number; used: number; available: number }
  | { type: 'set-vring-kick'; queue: number; hasFd: boolean }
  | { type: 'set-vring-call'; queue: number; hasFd: boolean }
  | { type: 'set-vring-err'; queue: number; hasFd: boolean }
  | { type: 'set-vring-enable'; queue: number; enabled: boolean }
  | { type: 'get-queue-num' }
  | { type: 'get-config'; offset: number; sizeBytes: number; flags: number }
  | { type: 'set-config' }
  | { type: 'unknown'; request: number };

export interface VhostUserMessage {
  request: number;
  needsReply: boolean;
  body: VhostUserRequest;
}

/** @param header the first 12 bytes. @returns length of the payload. @throws GuestFault */
export function payloadBytes(header: Uint8Array): number {
  const size = dataView(header).getUint32(8, true);
  if (size > MAX_PAYLOAD_BYTES) throw new GuestFault(`vhost-user message of ${size} bytes`);
  return size;
}

/** @param message header and payload. @throws GuestFault */
export function parseMessage(message: Uint8Array): VhostUserMessage {
  const view = dataView(message);
  const request = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  if ((flags & FLAG_VERSION_MASK) !== VERSION) throw new GuestFault(`vhost-user version ${flags & FLAG_VERSION_MASK}`);
  return { request, needsReply: (flags & FLAG_NEED_REPLY) !== 0, body: parseBody(request, message.subarray(MESSAGE_HEADER_BYTES)) };
}

function parseBody(request: number, payload: Uint8Array): VhostUserRequest {
  const view = dataView(payload);
  const need = (bytes: number): void => {
    if (payload.length < bytes) throw new GuestFault(`vhost-user request ${request} with ${payload.length} bytes`);
  };
  switch (request) {
    case 1: return { type: 'get-features' };
    case 2: need(8); return { type: 'set-features', features: view.getBigUint64(0, true) };
    case 3: return { type: 'set-owner' };
    case 4: return { type: 'reset-owner' };
    case 5: return { type: 'set-mem-table', regions: parseRegions(view, need) };
    case 8: need(8); return { type: 'set-vring-num', queue: view.getUint32(0, true), value: view.getUint32(4, true) };
    case 9: need(40); return { type: 'set-vring-addr', queue: view.getUint32(0, true), descriptor: address(view, 8), used: address(view, 16), available: address(view, 24) };
    case 10: need(8); return { type: 'set-vring-base', queue: view.getUint32(0, true), value: view.getUint32(4, true) };
    case 11: need(8); return { type: 'get-vring-base', queue: view.getUint32(0, true) };
    case 12: need(8); return { type: 'set-vring-kick', ...queueAndFd(view) };
    case 13: need(8); return { type: 'set-vring-call', ...queueAndFd(view) };
    case 14: need(8); return { type: 'set-vring-err', ...queueAndFd(view) };
    case 15: return { type: 'get-protocol-features' };
    case 16: need(8); return { type: 'set-protocol-features', features: view.getBigUint64(0, true) };
    case 17: return { type: 'get-queue-num' };
    case 18: need(8); return { type: 'set-vring-enable', queue: view.getUint32(0, true), enabled: view.getUint32(4, true) !== 0 };
    case 24: need(12); return { type: 'get-config', offset: view.getUint32(0, true), sizeBytes: view.getUint32(4, true), flags: view.getUint32(8, true) };
    case 25: return { type: 'set-config' };
    default: return { type: 'unknown', request };
  }
}

function parseRegions(view: DataView, need: (bytes: number) => void): SharedRegion[] {
  need(8);
  const count = view.getUint32(0, true);
  if (count > MAX_REGIONS) throw new GuestFault(`memory table of ${count} regions`);
  need(8 + 32 * count);
  const regions: SharedRegion[] = [];
  for (let i = 0; i < count; i++) {
    const at = 8 + 32 * i;
    regions.push({ guestAddress: address(view, at), sizeBytes: address(view, at + 8), userAddress: address(view, at + 16), fileOffset: address(view, at + 24) });
  }
  return regions;
}

function queueAndFd(view: DataView): { queue: number; hasFd: boolean } {
  const value = view.getUint32(0, true);
  return { queue: value & 0xff, hasFd: (value & VRING_NO_FD) === 0 };
}

/** A 64-bit field that must fit into a number exactly. */
function address(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  if (high >= 0x200000) throw new GuestFault('address out of range');
  return high * 0x100000000 + view.getUint32(offset, true);
}

export function encodeReply(request: number, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(MESSAGE_HEADER_BYTES + payload.length);
  const view = dataView(message);
  view.setUint32(0, request, true);
  view.setUint32(4, VERSION | FLAG_REPLY, true);
  view.setUint32(8, payload.length, true);
  message.set(payload, MESSAGE_HEADER_BYTES);
  return message;
}

export function encodeU64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  dataView(bytes).setBigUint64(0, value, true);
  return bytes;
}

export function encodeQueueState(queue: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = dataView(bytes);
  view.setUint32(0, queue, true);
  view.setUint32(4, value, true);
  return bytes;
}

/** Reply to GET_CONFIG: the three fields of the request, then the bytes. */
export function encodeConfig(request: { offset: number; sizeBytes: number; flags: number }, config: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + config.length);
  const view = dataView(bytes);
  view.setUint32(0, request.offset, true);
  view.setUint32(4, request.sizeBytes, true);
  view.setUint32(8, request.flags, true);
  bytes.set(config, 12);
  return bytes;
}

function dataView(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
