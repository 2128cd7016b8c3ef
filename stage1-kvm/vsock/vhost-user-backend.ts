/**
 * Device side of vhost-user for one vsock device: what QEMU says over the control channel turns into mapped memory and
 * running queues. QEMU is trusted as little as the guest: one that has been taken over may end its pod, nothing else.
 */
import type { VsockDevice } from './device.ts';
import { GuestFault, GuestMemory, type MapBytes, type MemoryRegion } from './guest-memory.ts';
import { encodeConfig, encodeQueueState, encodeReply, encodeU64, parseMessage, type SharedRegion, type VhostUserRequest } from './vhost-user-messages.ts';
import { Virtqueue } from './virtqueue.ts';

const VIRTIO_F_VERSION_1 = 1n << 32n;
const VHOST_USER_F_PROTOCOL_FEATURES = 1n << 30n;
const VIRTIO_RING_F_EVENT_IDX = 1n << 29n;
const VIRTIO_RING_F_INDIRECT_DESC = 1n << 28n;
const FEATURES = VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES | VIRTIO_RING_F_EVENT_IDX | VIRTIO_RING_F_INDIRECT_DESC;
const PROTOCOL_F_REPLY_ACK = 1n << 3n;
const PROTOCOL_F_CONFIG = 1n << 9n;
const PROTOCOL_FEATURES = PROTOCOL_F_REPLY_ACK | PROTOCOL_F_CONFIG;

const RECEIVE_QUEUE = 0;
const TRANSMIT_QUEUE = 1;
/** Events tell of a live migration: they exist, nothing is ever sent. */
const QUEUE_COUNT = 3;

export interface BackendHost {
  mapBytes: MapBytes;
  /**
   * Maps a region of shared memory.
   * @returns its address here
   * @throws GuestFault when the file is smaller than it should be, or may shrink later
   */
  mapRegion(fd: number, region: SharedRegion): number;
  unmapRegion(hostAddress: number, region: SharedRegion): void;
  close(fd: number): void;
  /** Calls back at every kick; the eventfd stays with the backend. */
  watchKick(fd: number, kicked: () => void): void;
  unwatchKick(fd: number): void;
  interrupt(callFd: number): void;
  reply(message: Uint8Array): void;
}

interface Vring {
  size: number;
  base: number;
  addresses: { descriptor: number; used: number; available: number } | null;
  kickFd: number;
  callFd: number;
  enabled: boolean;
  /** While it runs, nothing of the above changes but callFd. */
  queue: Virtqueue | null;
}

export class VhostUserBackend {
  readonly #device: VsockDevice;
  readonly #host: BackendHost;
  readonly #config: Uint8Array;
  readonly #vrings: Vring[] = [];
  #features = 0n;
  #memory: GuestMemory | null = null;
  #mapped: { address: number; region: SharedRegion }[] = [];
  #isRunning = false;

  constructor(device: VsockDevice, host: BackendHost, guestCid: number) {
    this.#device = device;
    this.#host = host;
    // struct virtio_vsock_config
    this.#config = encodeU64(BigInt(guestCid));
    for (let i = 0; i < QUEUE_COUNT; i++) this.#vrings.push({ size: 0, base: 0, addresses: null, kickFd: -1, callFd: -1, enabled: false, queue: null });
  }

  /**
   * One message with the descriptors that came with it, which belong to the backend from now on.
   * @throws GuestFault
   */
  handle(message: Uint8Array, fds: readonly number[]): void {
    const left = [...fds];
    try {
      const { request, needsReply, body } = parseMessage(message);
      const reply = this.#perform(body, left);
      if (reply !== null) this.#host.reply(encodeReply(request, reply));
      else if (needsReply) this.#host.reply(encodeReply(request, encodeU64(body.type === 'unknown' ? 1n : 0n)));
    } finally {
      for (const fd of left) this.#host.close(fd);
    }
  }

  interrupt(queue: 'receive' | 'transmit'): void {
    const { callFd } = this.#vrings[queue === 'receive' ? RECEIVE_QUEUE : TRANSMIT_QUEUE]!;
    if (callFd >= 0) this.#host.interrupt(callFd);
  }

  /** QEMU is gone. */
  close(): void {
    this.#stopDevice();
    for (const vring of this.#vrings) {
      this.#stopQueue(vring);
      this.#setKick(vring, -1);
      if (vring.callFd >= 0) this.#host.close(vring.callFd);
      vring.callFd = -1;
    }
    this.#unmap();
  }

  /** @param fds those that are taken are removed. @returns payload of the reply, or null when the request has none of its own */
  #perform(body: VhostUserRequest, fds: number[]): Uint8Array | null {
    switch (body.type) {
      case 'get-features': return encodeU64(FEATURES);
      case 'get-protocol-features': return encodeU64(PROTOCOL_FEATURES);
      case 'get-queue-num': return encodeU64(BigInt(QUEUE_COUNT));
      case 'get-config': return this.#configReply(body);
      case 'get-vring-base': return this.#stopAndReport(body.queue);
      case 'set-features':
        if ((body.features & ~FEATURES) !== 0n) throw new GuestFault('a feature was chosen that was not offered');
        if (this.#isRunning && (body.features ^ this.#features) & VIRTIO_RING_F_EVENT_IDX) throw new GuestFault('features changed while the device runs');
        this.#features = body.features;
        break;
      case 'set-mem-table': this.#setMemory(body.regions, fds); break;
      case 'set-vring-num': this.#stopped(body.queue).size = body.value; break;
      case 'set-vring-base': this.#stopped(body.queue).base = body.value & 0xffff; break;
      case 'set-vring-addr': {
        const { descriptor, used, available } = body;
        this.#stopped(body.queue).addresses = { descriptor, used, available };
        break;
      }
      case 'set-vring-kick': {
        const vring = this.#stopped(body.queue);
        const fd = body.hasFd ? fds.shift() : undefined;
        // A queue without a kick would have to be polled, which QEMU never asks for.
        if (fd === undefined) throw new GuestFault('vring without a kick descriptor');
        this.#setKick(vring, fd);
        this.#startQueue(vring);
        break;
      }
      case 'set-vring-call': {
        const vring = this.#vring(body.queue);
        if (vring.callFd >= 0) this.#host.close(vring.callFd);
        vring.callFd = (body.hasFd ? fds.shift() : undefined) ?? -1;
        break;
      }
      case 'set-vring-enable':
        this.#vring(body.queue).enabled = body.enabled;
        this.#startOrStopDevice();
        break;
      // Errors are not reported through a descriptor, they end the pod. An owner is implied by the one connection.
      case 'set-vring-err': case 'set-owner': case 'reset-owner': case 'set-protocol-features': case 'set-config': case 'unknown': break;
    }
    return null;
  }

  #vring(index: number): Vring {
    const vring = this.#vrings[index];
    if (vring === undefined) throw new GuestFault(`there is no queue ${index}`);
    return vring;
  }

  /** The queue's configuration is frozen while it runs. */
  #stopped(index: number): Vring {
    const vring = this.#vring(index);
    if (vring.queue !== null) throw new GuestFault(`queue ${index} was changed while it runs`);
    return vring;
  }

  #configReply(body: { offset: number; sizeBytes: number; flags: number }): Uint8Array {
    const { offset, sizeBytes } = body;
    // QEMU takes a reply without content for an error.
    if (offset + sizeBytes > this.#config.length) return new Uint8Array(0);
    return encodeConfig(body, this.#config.subarray(offset, offset + sizeBytes));
  }

  #stopAndReport(index: number): Uint8Array {
    const vring = this.#vring(index);
    this.#stopDevice();
    this.#stopQueue(vring);
    this.#setKick(vring, -1);
    return encodeQueueState(index, vring.base);
  }

  #setMemory(regions: SharedRegion[], fds: number[]): void {
    if (fds.length < regions.length) throw new GuestFault(`memory table of ${regions.length} regions with ${fds.length} descriptors`);
    checkOverlap(regions);
    const old = this.#mapped;
    const mapped: { address: number; region: SharedRegion }[] = [];
    try {
      regions.forEach((region, i) => mapped.push({ region, address: this.#host.mapRegion(fds[i]!, region) }));
    } catch (error) {
      for (const { address, region } of mapped) this.#host.unmapRegion(address, region);
      throw error;
    }
    this.#mapped = mapped;
    this.#memory = new GuestMemory(mapped.map(({ address, region }): MemoryRegion => ({ ...region, hostAddress: address })), this.#host.mapBytes);
    try {
      this.#moveQueues();
    } catch (error) {
      this.#stopDevice();
      throw error;
    } finally {
      for (const { address, region } of old) this.#host.unmapRegion(address, region);
    }
  }

  /** Running queues go on in the new mapping, from where they are. */
  #moveQueues(): void {
    const wasRunning = this.#isRunning;
    for (const vring of this.#vrings) {
      if (vring.queue === null) continue;
      this.#stopQueue(vring);
      this.#startQueue(vring);
    }
    if (wasRunning) this.#replaceQueues();
  }

  #startQueue(vring: Vring): void {
    if (this.#memory === null || vring.addresses === null || vring.size === 0) throw new GuestFault('vring started before it was described');
    vring.queue = new Virtqueue(this.#memory, {
      size: vring.size,
      descriptorUserAddress: vring.addresses.descriptor,
      availableUserAddress: vring.addresses.available,
      usedUserAddress: vring.addresses.used,
      availableBase: vring.base,
      eventIndex: (this.#features & VIRTIO_RING_F_EVENT_IDX) !== 0n,
    });
    this.#startOrStopDevice();
  }

  #stopQueue(vring: Vring): void {
    if (vring.queue === null) return;
    vring.base = vring.queue.availableBase;
    vring.queue = null;
  }

  /** Without the negotiated protocol features a queue is enabled from the start. */
  #isReady(vring: Vring): boolean {
    return vring.queue !== null && (vring.enabled || (this.#features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n);
  }

  #startOrStopDevice(): void {
    const ready = this.#isReady(this.#vrings[RECEIVE_QUEUE]!) && this.#isReady(this.#vrings[TRANSMIT_QUEUE]!);
    if (!ready) {
      this.#stopDevice();
    } else if (!this.#isRunning) {
      this.#isRunning = true;
      this.#replaceQueues();
    }
  }

  #replaceQueues(): void {
    this.#device.start({ memory: this.#memory!, receive: this.#vrings[RECEIVE_QUEUE]!.queue!, transmit: this.#vrings[TRANSMIT_QUEUE]!.queue! });
  }

  #stopDevice(): void {
    if (!this.#isRunning) return;
    this.#isRunning = false;
    this.#device.stop();
  }

  #setKick(vring: Vring, fd: number): void {
    if (vring.kickFd >= 0) {
      this.#host.unwatchKick(vring.kickFd);
      this.#host.close(vring.kickFd);
    }
    vring.kickFd = fd;
    if (fd >= 0) this.#host.watchKick(fd, () => this.#device.handle());
  }

  #unmap(): void {
    for (const { address, region } of this.#mapped) this.#host.unmapRegion(address, region);
    this.#mapped = [];
    this.#memory = null;
  }
}

function checkOverlap(regions: readonly SharedRegion[]): void {
  regions.forEach((region, i) => {
    if (region.sizeBytes === 0) throw new GuestFault('empty memory region');
    for (const other of regions.slice(0, i)) {
      if (region.guestAddress < other.guestAddress + other.sizeBytes && other.guestAddress < region.guestAddress + region.sizeBytes) throw new GuestFault('memory regions overlap');
    }
  });
}
