import t from 'tap';
import { VsockDevice } from '../../stage1-kvm/vsock/device.ts';
import { GuestFault } from '../../stage1-kvm/vsock/guest-memory.ts';
import { VhostUserBackend, type BackendHost } from '../../stage1-kvm/vsock/vhost-user-backend.ts';
import { payloadBytes } from '../../stage1-kvm/vsock/vhost-user-messages.ts';
import { DriverQueue, FakeMemory, FakePrograms, HOST_BASE, random, USER_BASE } from './monitor-guest.ts';

const SET_FEATURES = 2, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_ADDR = 9, SET_VRING_BASE = 10, GET_VRING_BASE = 11, SET_VRING_KICK = 12, SET_VRING_CALL = 13, SET_VRING_ENABLE = 18, GET_CONFIG = 24;
const FEATURES = (1n << 32n) | (1n << 30n) | (1n << 29n) | (1n << 28n);
const MEMORY_BYTES = 1 << 20;

function makeBackend() {
  const memory = new FakeMemory(MEMORY_BYTES);
  const programs = new FakePrograms(memory);
  const open = new Set<number>();
  const kicks = new Map<number, () => void>();
  const replies: Uint8Array[] = [];
  let mapped = 0;
  let interrupts = 0;
  const device = new VsockDevice({ guestCid: 3, io: programs.io, interrupt: (queue) => backend.interrupt(queue), onGuestConnect: () => null, onFault: () => undefined });
  const host: BackendHost = {
    mapBytes: (address, length) => memory.at(address, length),
    mapRegion: (_fd, region) => {
      if (region.fileOffset + region.sizeBytes > MEMORY_BYTES) throw new GuestFault('too large');
      mapped++;
      return HOST_BASE + region.fileOffset;
    },
    unmapRegion: () => { mapped--; },
    close: (fd) => { if (!open.delete(fd)) throw new Error(`descriptor ${fd} closed twice`); },
    watchKick: (fd, kicked) => kicks.set(fd, kicked),
    unwatchKick: (fd) => kicks.delete(fd),
    interrupt: () => { interrupts++; },
    reply: (message) => replies.push(message),
  };
  const backend = new VhostUserBackend(device, host, 3);
  let nextFd = 10;
  const send = (request: number, payload: Uint8Array, options: { fds?: number; flags?: number } = {}): void => {
    const message = new Uint8Array(12 + payload.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, request, true);
    view.setUint32(4, options.flags ?? 1, true);
    view.setUint32(8, payload.length, true);
    message.set(payload, 12);
    const fds = Array.from({ length: options.fds ?? 0 }, () => nextFd++);
    fds.forEach((fd) => open.add(fd));
    backend.handle(message, fds);
  };
  return { memory, programs, device, backend, send, open, kicks, replies, mappedRegions: () => mapped, interrupts: () => interrupts };
}

function isRefused(act: () => void): boolean {
  try {
    act();
    return false;
  } catch (error) {
    return error instanceof GuestFault;
  }
}

const u32s = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const u64s = (...values: (number | bigint)[]): Uint8Array => new Uint8Array(BigUint64Array.from(values.map(BigInt)).buffer);
const join = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
const table = (...regions: [number, number, number, number][]): Uint8Array => join(u32s(regions.length, 0), ...regions.map((region) => u64s(...region)));
const fullTable = table([0, MEMORY_BYTES, USER_BASE, 0]);
const addresses = (queue: number, ring: DriverQueue, base: number): Uint8Array => join(u32s(queue, 0), u64s(USER_BASE + base, USER_BASE + ring.usedAt, USER_BASE + ring.availableAt, 0));

function startQueues(target: ReturnType<typeof makeBackend>): DriverQueue[] {
  target.send(SET_FEATURES, u64s(FEATURES));
  target.send(SET_MEM_TABLE, fullTable, { fds: 1 });
  return [0x1000, 0x3000].map((base, queue) => {
    const ring = new DriverQueue(target.memory, base, { size: 16, eventIndex: true });
    target.send(SET_VRING_NUM, u32s(queue, 16));
    target.send(SET_VRING_BASE, u32s(queue, 0));
    target.send(SET_VRING_ADDR, addresses(queue, ring, base));
    target.send(SET_VRING_KICK, u64s(queue), { fds: 1 });
    target.send(SET_VRING_CALL, u64s(queue), { fds: 1 });
    target.send(SET_VRING_ENABLE, u32s(queue, 1));
    return ring;
  });
}

t.test('a device comes up, works and goes away', async (t) => {
  const target = makeBackend();
  target.send(GET_CONFIG, join(u32s(0, 8, 0), new Uint8Array(8)));
  t.same(target.replies.pop(), join(u32s(GET_CONFIG, 5, 20), u32s(0, 8, 0), u64s(3)), 'the guest\'s address');
  const [receive] = startQueues(target);
  receive!.offer([{ address: 0x8000, length: 4096, writable: true }]);
  const program = target.programs.add();
  const attempt = target.device.connect(program.fd, 1024);
  t.equal(receive!.collect().length, 1, 'the queues are in use');
  t.ok(target.interrupts() > 0);
  target.send(GET_VRING_BASE, u32s(0, 0));
  t.same(target.replies.pop(), join(u32s(GET_VRING_BASE, 5, 8), u32s(0, 1)), 'one buffer was taken');
  await t.rejects(attempt, /reset its vsock device/);
  target.send(99, new Uint8Array(0), { flags: 9 });
  t.same(target.replies.pop(), join(u32s(99, 5, 8), u64s(1)), 'what is not known fails');
  target.backend.close();
  t.same([...target.open], [], 'no descriptor is left open');
  t.equal(target.mappedRegions(), 0);
  t.equal(target.kicks.size, 0);
});

t.test('memory may change while queues run', async (t) => {
  const target = makeBackend();
  const [receive] = startQueues(target);
  target.send(SET_MEM_TABLE, table([0, 0x80000, USER_BASE, 0], [0x80000, 0x80000, USER_BASE + 0x80000, 0x80000]), { fds: 2 });
  t.equal(target.mappedRegions(), 2);
  receive!.offer([{ address: 0x90000, length: 4096, writable: true }]);
  target.device.connect(target.programs.add().fd, 1).catch(() => undefined);
  t.equal(receive!.collect().length, 1);
  t.ok(isRefused(() => target.send(SET_MEM_TABLE, table([0, 0x1000, USER_BASE, 0]), { fds: 1 })), 'not to where the rings are not');
});

t.test('refused', async (t) => {
  const refuses = (name: string, act: (target: ReturnType<typeof makeBackend>) => void): void => {
    const target = makeBackend();
    t.ok(isRefused(() => act(target)), name);
    target.backend.close();
    t.same([...target.open], [], `${name}: nothing leaks`);
    t.equal(target.mappedRegions(), 0);
  };
  refuses('a queue changed while it runs (Firecracker CVE-2026-5747)', (target) => {
    startQueues(target);
    target.send(SET_VRING_ADDR, join(u32s(0, 0), u64s(USER_BASE, USER_BASE, USER_BASE, 0)));
  });
  refuses('its size too', (target) => {
    startQueues(target);
    target.send(SET_VRING_NUM, u32s(1, 1024));
  });
  refuses('a queue that does not exist', (target) => target.send(SET_VRING_NUM, u32s(3, 16)));
  refuses('a size that is no power of two', (target) => {
    startQueuesWith(target, { size: 17 });
  });
  refuses('a size beyond all drivers', (target) => {
    startQueuesWith(target, { size: 32768 });
  });
  refuses('rings outside of memory', (target) => startQueuesWith(target, { base: MEMORY_BYTES - 64 }));
  refuses('rings across the end of the address space', (target) => {
    target.send(SET_VRING_ADDR, join(u32s(0, 0), u64s(2n ** 63n, 0, 0, 0)));
  });
  refuses('rings that are not aligned', (target) => startQueuesWith(target, { base: 0x1004 }));
  refuses('a start without a description', (target) => target.send(SET_VRING_KICK, u64s(0), { fds: 1 }));
  refuses('a queue to be polled', (target) => target.send(SET_VRING_KICK, u64s(0x100)));
  refuses('features that were not offered', (target) => target.send(SET_FEATURES, u64s(1n << 34n)));
  refuses('more regions than descriptors', (target) => target.send(SET_MEM_TABLE, table([0, 4096, 0, 0], [4096, 4096, 4096, 0]), { fds: 1 }));
  refuses('regions that overlap', (target) => target.send(SET_MEM_TABLE, table([0, 8192, 0, 0], [4096, 4096, 8192, 0]), { fds: 2 }));
  refuses('an empty region', (target) => target.send(SET_MEM_TABLE, table([0, 0, 0, 0]), { fds: 1 }));
  refuses('too many regions', (target) => target.send(SET_MEM_TABLE, u32s(9, 0), { fds: 8 }));
  refuses('another version', (target) => target.send(1, new Uint8Array(0), { flags: 2 }));
  refuses('a message cut short', (target) => target.send(SET_VRING_ADDR, u32s(0, 0)));
  t.ok(isRefused(() => payloadBytes(join(u32s(1, 1, 513)))), 'a message too long to be one');
});

function startQueuesWith(target: ReturnType<typeof makeBackend>, change: { size?: number; base?: number }): void {
  target.send(SET_FEATURES, u64s(FEATURES));
  target.send(SET_MEM_TABLE, fullTable, { fds: 1 });
  const base = change.base ?? 0x1000;
  target.send(SET_VRING_NUM, u32s(0, change.size ?? 16));
  target.send(SET_VRING_ADDR, join(u32s(0, 0), u64s(USER_BASE + base, USER_BASE + base + 0x2000, USER_BASE + base + 0x1000, 0)));
  target.send(SET_VRING_KICK, u64s(0), { fds: 1 });
}

t.test('random messages are refused or do no harm, and nothing leaks', async (t) => {
  const requests = [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 25, 77];
  let faults = 0;
  for (let seed = 1; seed <= Number(process.env['RKT_TEST_ROUNDS'] ?? 30) * 20; seed++) {
    const { next, bytes } = random(seed);
    const target = makeBackend();
    if (seed % 2 === 0) startQueues(target);
    for (let i = 0; i < 30; i++) {
      const request = requests[next(requests.length)]!;
      const payloads = [bytes(next(80)), u32s(next(4), next(3) * 16), u64s(next(0x200)), fullTable, join(u32s(next(4), 0), u64s(USER_BASE + next(MEMORY_BYTES), USER_BASE + next(MEMORY_BYTES), USER_BASE + (next(MEMORY_BYTES) & ~15), 0))];
      try {
        target.send(request, payloads[next(payloads.length)]!, { fds: next(3), flags: 1 + next(2) * 8 });
        target.memory.bytes.set(bytes(8), next(MEMORY_BYTES - 8));
        for (const kicked of target.kicks.values()) kicked();
        while (target.programs.runSoon());
      } catch (error) {
        if (!(error instanceof GuestFault)) throw error;
        faults++;
        break;
      }
    }
    target.backend.close();
    target.device.close();
    if (target.open.size > 0 || target.mappedRegions() !== 0 || target.kicks.size > 0) t.fail(`seed ${seed}: ${target.open.size} descriptors, ${target.mappedRegions()} mappings, ${target.kicks.size} watches left`);
  }
  t.ok(faults > 100, `${faults} refusals`);
});
