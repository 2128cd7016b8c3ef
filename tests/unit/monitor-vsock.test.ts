import t from 'tap';
import { MAX_CONNECTIONS, VsockDevice } from '../../stage1-kvm/vsock/device.ts';
import type { GuestFault } from '../../stage1-kvm/vsock/guest-memory.ts';
import { DriverQueue, FakeMemory, FakePrograms, random, type Program } from './monitor-guest.ts';

const CID = 3;
const RECEIVE_AT = 0x1000;
const TRANSMIT_AT = 0x3000;
const RECEIVE_BUFFERS = 0x10000;
const TRANSMIT_BUFFERS = 0x40000;
const SLOT_BYTES = 4096 + 128;

interface Packet { hostPort: number; guestPort: number; op: number; flags: number; bufferBytes: number; forwarded: number; type: number; data: Uint8Array }

interface Stream {
  program: Program; hostPort: number; toHost: Uint8Array; toGuest: Uint8Array; sent: number; given: number; got: number[];
  sawEnd: boolean; sentEnd: boolean; hostBuffer: number; hostForwarded: number; consumed: number;
}

/** A guest with a driver that keeps its receive queue full, and nothing above it. */
function makeGuest(options: { eventIndex?: boolean; onGuestConnect?: (port: number) => number | null; receiveBuffers?: number } = {}) {
  const memory = new FakeMemory(1 << 20);
  const programs = new FakePrograms(memory);
  const eventIndex = options.eventIndex ?? true;
  const receive = new DriverQueue(memory, RECEIVE_AT, { size: 32, eventIndex });
  const transmit = new DriverQueue(memory, TRANSMIT_AT, { size: 32, eventIndex });
  const faults: GuestFault[] = [];
  const interrupts = { receive: 0, transmit: 0 };
  const device = new VsockDevice({
    guestCid: CID, io: programs.io,
    interrupt: (queue) => { interrupts[queue]++; },
    onGuestConnect: options.onGuestConnect ?? (() => null),
    onFault: (fault) => faults.push(fault),
  });
  const receiveSlots = new Map<number, number>();
  const freeReceive = Array.from({ length: options.receiveBuffers ?? 8 }, (_, i) => i);
  const transmitSlots = new Map<number, number>();
  const freeTransmit = Array.from({ length: 8 }, (_, i) => i);
  const fill = (): void => {
    while (freeReceive.length > 0) {
      const slot = freeReceive.pop()!;
      const at = RECEIVE_BUFFERS + slot * SLOT_BYTES;
      // Header and data in segments of their own, as Linux before 6.3; sometimes indirect.
      const head = receive.offer([{ address: at, length: 44, writable: true }, { address: at + 128, length: 4096, writable: true }], slot % 2 === 0 ? at + 64 : undefined);
      receiveSlots.set(head, slot);
    }
  };
  const send = (packet: Partial<Packet> & { hostPort: number; guestPort: number; op: number }, raw: { length?: number; cid?: number } = {}): boolean => {
    for (const { head } of transmit.collect()) {
      freeTransmit.push(transmitSlots.get(head)!);
      transmitSlots.delete(head);
    }
    const slot = freeTransmit.pop();
    if (slot === undefined) return false;
    const data = packet.data ?? new Uint8Array(0);
    const at = TRANSMIT_BUFFERS + slot * SLOT_BYTES;
    const { view } = memory;
    view.setBigUint64(at, BigInt(raw.cid ?? CID), true);
    view.setBigUint64(at + 8, 2n, true);
    view.setUint32(at + 16, packet.guestPort, true);
    view.setUint32(at + 20, packet.hostPort, true);
    view.setUint32(at + 24, raw.length ?? data.length, true);
    view.setUint16(at + 28, packet.type ?? 1, true);
    view.setUint16(at + 30, packet.op, true);
    view.setUint32(at + 32, packet.flags ?? 0, true);
    view.setUint32(at + 36, packet.bufferBytes ?? 65536, true);
    view.setUint32(at + 40, packet.forwarded ?? 0, true);
    memory.bytes.set(data, at + 64);
    const segments = [{ address: at, length: 44, writable: false }];
    if (data.length > 0) segments.push({ address: at + 64, length: data.length, writable: false });
    transmitSlots.set(transmit.offer(segments), slot);
    return true;
  };
  const packets = (): Packet[] => {
    const { view } = memory;
    const found: Packet[] = [];
    for (const { head, written } of receive.collect()) {
      const slot = receiveSlots.get(head)!;
      receiveSlots.delete(head);
      freeReceive.push(slot);
      const at = RECEIVE_BUFFERS + slot * SLOT_BYTES;
      const length = view.getUint32(at + 24, true);
      if (written !== 44 + length) throw new Error(`device says it wrote ${written} bytes for a packet of ${length}`);
      found.push({
        hostPort: view.getUint32(at + 16, true), guestPort: view.getUint32(at + 20, true), type: view.getUint16(at + 28, true), op: view.getUint16(at + 30, true),
        flags: view.getUint32(at + 32, true), bufferBytes: view.getUint32(at + 36, true), forwarded: view.getUint32(at + 40, true), data: memory.bytes.slice(at + 128, at + 128 + length),
      });
    }
    fill();
    return found;
  };
  fill();
  device.start({ memory: memory.memory, receive: receive.device(), transmit: transmit.device() });
  const settle = (): void => {
    device.handle();
    while (programs.runSoon());
  };
  return { memory, programs, device, faults, interrupts, send, packets, settle, receive, transmit };
}

async function established(guest: ReturnType<typeof makeGuest>, capacity?: number): Promise<{ program: Program; hostPort: number }> {
  const program = guest.programs.add(capacity);
  const connected = guest.device.connect(program.fd, 1024);
  const [request] = guest.packets();
  guest.send({ hostPort: request!.hostPort, guestPort: 1024, op: 2 });
  guest.settle();
  await connected;
  guest.settle();
  return { program, hostPort: request!.hostPort };
}

t.test('a connection from the host', async (t) => {
  const guest = makeGuest();
  const program = guest.programs.add();
  const connected = guest.device.connect(program.fd, 1024, (port) => new TextEncoder().encode(`OK ${port}\n`));
  const [request] = guest.packets();
  t.match(request, { op: 1, guestPort: 1024, type: 1 }, 'the guest is asked');
  t.ok(request!.bufferBytes > 0, 'and told how much the host takes');
  guest.send({ hostPort: request!.hostPort, guestPort: 1024, op: 2 });
  guest.settle();
  await connected;
  t.equal(String.fromCharCode(...program.inbox.splice(0)), `OK ${request!.hostPort}\n`, 'the greeting comes first');
  guest.send({ hostPort: request!.hostPort, guestPort: 1024, op: 5, data: Uint8Array.of(1, 2, 3) });
  program.outbox.push(9, 8);
  guest.settle();
  guest.programs.notify(program);
  t.same(program.inbox, [1, 2, 3], 'guest to host');
  const data = guest.packets().find((packet) => packet.op === 5)!;
  t.same([...data.data], [9, 8], 'host to guest');
  t.equal(data.forwarded, 3, 'what was taken is acknowledged with it');
});

t.test('a refused connection, and one nobody answers', async (t) => {
  const guest = makeGuest();
  const program = guest.programs.add();
  const refused = guest.device.connect(program.fd, 1);
  const [request] = guest.packets();
  guest.send({ hostPort: request!.hostPort, guestPort: 1, op: 3 });
  guest.settle();
  await t.rejects(refused, /refused/);
  t.ok(program.deviceClosed, 'the local stream is closed');
  const silent = guest.device.connect(guest.programs.add().fd, 1);
  t.ok(guest.device.hasDeadlines);
  guest.programs.nowMs += 11_000;
  guest.device.expire();
  await t.rejects(silent, /does not answer/);
  t.equal(guest.device.connectionCount, 0);
});

t.test('a connection from the guest', async (t) => {
  const asked: number[] = [];
  let program: Program | null = null;
  const guest = makeGuest({ onGuestConnect: (port) => {
    asked.push(port);
    return port === 7 && program !== null ? program.fd : null;
  } });
  program = guest.programs.add();
  guest.send({ hostPort: 1026, guestPort: 5000, op: 1 });
  guest.settle();
  t.match(guest.packets(), [{ op: 3, hostPort: 1026, guestPort: 5000 }], 'a knock is refused');
  t.same(asked, [1026]);
  guest.send({ hostPort: 7, guestPort: 5001, op: 1 });
  guest.settle();
  t.match(guest.packets(), [{ op: 2, hostPort: 7, guestPort: 5001 }], 'a port somebody listens on is not');
});

t.test('half-close in both orders', async (t) => {
  t.test('host first', async (t) => {
    const guest = makeGuest();
    const { program, hostPort } = await established(guest);
    program.outbox.push(1, 2);
    program.ended = true;
    guest.programs.notify(program);
    t.match(guest.packets().map((packet) => [packet.op, packet.flags]), [[5, 0], [4, 2]], 'data, then SHUTDOWN of sending only');
    guest.send({ hostPort, guestPort: 1024, op: 5, data: Uint8Array.of(7) });
    guest.settle();
    t.same(program.inbox, [7], 'the other direction goes on');
    guest.send({ hostPort, guestPort: 1024, op: 4, flags: 3 });
    guest.settle();
    t.ok(program.deviceClosed);
    t.match(guest.packets().at(-1), { op: 3 }, 'the guest gets its confirmation');
    t.equal(guest.device.connectionCount, 0);
  });
  t.test('guest first, while the program does not read', async (t) => {
    const guest = makeGuest();
    const { program, hostPort } = await established(guest, 4);
    guest.send({ hostPort, guestPort: 1024, op: 5, data: Uint8Array.of(1, 2, 3, 4, 5, 6) });
    guest.send({ hostPort, guestPort: 1024, op: 4, flags: 2 });
    guest.settle();
    t.notOk(program.sawEnd, 'the end waits for the data');
    program.received.push(...program.inbox.splice(0));
    guest.programs.notify(program);
    program.received.push(...program.inbox.splice(0));
    t.same(program.received, [1, 2, 3, 4, 5, 6]);
    t.ok(program.sawEnd);
    t.notOk(program.deviceClosed, 'the program may still send');
    program.outbox.push(5);
    guest.programs.notify(program);
    t.same([...guest.packets().at(-1)!.data], [5]);
  });
  t.test('guest gone while the program has not read everything', async (t) => {
    const guest = makeGuest();
    const { program, hostPort } = await established(guest, 2);
    guest.send({ hostPort, guestPort: 1024, op: 5, data: Uint8Array.of(1, 2, 3, 4) });
    guest.send({ hostPort, guestPort: 1024, op: 4, flags: 3 });
    guest.send({ hostPort, guestPort: 1024, op: 3 });
    guest.settle();
    t.notOk(program.deviceClosed);
    program.received.push(...program.inbox.splice(0));
    guest.programs.notify(program);
    program.received.push(...program.inbox.splice(0));
    t.same(program.received, [1, 2, 3, 4], 'nothing is lost');
    t.ok(program.deviceClosed);
    t.equal(guest.device.connectionCount, 0);
  });
});

t.test('the program is gone', async (t) => {
  const guest = makeGuest();
  const { program, hostPort } = await established(guest);
  program.outbox.push(1);
  program.closed = true;
  guest.programs.notify(program);
  t.match(guest.packets().map((packet) => [packet.op, packet.flags]), [[5, 0], [4, 3]], 'what it sent arrives, then both directions end');
  t.ok(program.deviceClosed);
  guest.send({ hostPort, guestPort: 1024, op: 5, data: Uint8Array.of(1) });
  guest.send({ hostPort, guestPort: 1024, op: 3 });
  guest.settle();
  t.equal(guest.device.connectionCount, 0);
});

t.test('credit', async (t) => {
  await t.test('no more is sent than the guest has room for', async (t) => {
    const guest = makeGuest();
    const program = guest.programs.add();
    const connected = guest.device.connect(program.fd, 1024);
    const [request] = guest.packets();
    guest.send({ hostPort: request!.hostPort, guestPort: 1024, op: 2, bufferBytes: 10 });
    guest.settle();
    await connected;
    program.outbox.push(...Array.from({ length: 25 }, (_, i) => i));
    guest.programs.notify(program);
    t.equal(guest.packets().reduce((sum, packet) => sum + packet.data.length, 0), 10);
    guest.send({ hostPort: request!.hostPort, guestPort: 1024, op: 6, bufferBytes: 10, forwarded: 8 });
    guest.settle();
    t.equal(guest.packets().reduce((sum, packet) => sum + packet.data.length, 0), 8);
    guest.send({ hostPort: request!.hostPort, guestPort: 1024, op: 6, bufferBytes: 5, forwarded: 8 });
    guest.settle();
    t.equal(guest.packets().length, 0, 'a buffer that shrank below what is in flight stops the stream');
  });
  await t.test('a guest that sends more than it may is cut off', async (t) => {
    const guest = makeGuest();
    const { program, hostPort } = await established(guest, 0);
    let sent = 0;
    let reset = false;
    while (sent < 300_000 && !reset) {
      guest.send({ hostPort, guestPort: 1024, op: 5, data: new Uint8Array(4096) });
      sent += 4096;
      guest.settle();
      reset = guest.packets().some((packet) => packet.op === 3);
    }
    t.ok(reset);
    t.ok(sent > 256 << 10 && sent < (256 << 10) + 8192, `after ${sent} bytes`);
    t.ok(program.deviceClosed);
  });
});

t.test('packets that make no sense', async (t) => {
  const guest = makeGuest();
  const { program, hostPort } = await established(guest);
  guest.send({ hostPort: 99, guestPort: 98, op: 5, data: Uint8Array.of(1) });
  guest.settle();
  t.match(guest.packets(), [{ op: 3, hostPort: 99, guestPort: 98 }], 'data for no connection');
  guest.send({ hostPort: 99, guestPort: 98, op: 3 });
  guest.settle();
  t.same(guest.packets(), [], 'RST is never answered');
  guest.send({ hostPort: 99, guestPort: 98, op: 1, type: 2 });
  guest.settle();
  t.match(guest.packets(), [{ op: 3, type: 2 }], 'a type other than stream');
  guest.send({ hostPort, guestPort: 1024, op: 1 }, { cid: 4 });
  guest.settle();
  t.same(guest.packets(), [], 'another guest\'s address is ignored');
  guest.send({ hostPort, guestPort: 1024, op: 5, data: Uint8Array.of(1) }, { length: 5000 });
  guest.settle();
  t.match(guest.packets(), [{ op: 3, hostPort }], 'a length beyond the buffer (Firecracker CVE-2019-18960)');
  t.same(program.inbox, []);
  t.ok(program.deviceClosed);
  t.same(guest.faults, []);
});

t.test('bounds', async (t) => {
  const guest = makeGuest();
  const attempts = Array.from({ length: MAX_CONNECTIONS + 1 }, () => guest.device.connect(guest.programs.add().fd, 1));
  await t.rejects(attempts.at(-1)!, /too many/);
  guest.device.close();
  for (const result of await Promise.allSettled(attempts)) t.equal(result.status, 'rejected');

  const flood = makeGuest({ receiveBuffers: 0 });
  let accepted = 0;
  while (accepted < 1000 && flood.send({ hostPort: 1, guestPort: 2, op: 6 })) {
    accepted++;
    flood.settle();
  }
  t.ok(accepted < 100, `a guest that sends nonsense and takes no answers is not read from any more (after ${accepted})`);
});

t.test('random traffic arrives whole, in order and with its end', async (t) => {
  for (let seed = 1; seed <= Number(process.env['RKT_TEST_ROUNDS'] ?? 30); seed++) {
    const { next, bytes } = random(seed);
    const guest = makeGuest({ eventIndex: seed % 3 !== 0, receiveBuffers: 1 + next(12) });
    guest.programs.limit = (wanted) => 1 + next(wanted);
    const streams: Stream[] = [];
    for (let i = 0; i < 1 + next(5); i++) {
      const { program, hostPort } = await established(guest, 50 + next(9000));
      streams.push({ program, hostPort, toHost: bytes(next(60_000)), toGuest: bytes(next(60_000)), sent: 0, given: 0, got: [] as number[], sawEnd: false, sentEnd: false, hostBuffer: 65536, hostForwarded: 0, consumed: 0 });
    }
    const isDone = (s: Stream): boolean => s.sentEnd && s.sawEnd && s.program.sawEnd && s.program.inbox.length === 0;
    let rounds = 0;
    while (!streams.every(isDone)) {
      if (++rounds > 200_000) {
        t.fail(`seed ${seed}: stalled: ${JSON.stringify(streams.map((s) => [s.sent, s.toHost.length, s.got.length, s.toGuest.length, s.sentEnd, s.sawEnd, s.program.sawEnd, s.program.inbox.length]))}`);
        return;
      }
      const s = streams[next(streams.length)]!;
      switch (next(6)) {
        case 0: { // the guest sends
          const room = s.hostBuffer - ((s.sent - s.hostForwarded) >>> 0);
          const length = Math.min(1 + next(4096), s.toHost.length - s.sent, room);
          if (length > 0 && guest.send({ hostPort: s.hostPort, guestPort: 1024, op: 5, data: s.toHost.slice(s.sent, s.sent + length), forwarded: s.consumed })) s.sent += length;
          else if (s.sent === s.toHost.length && !s.sentEnd && guest.send({ hostPort: s.hostPort, guestPort: 1024, op: 4, flags: 2, forwarded: s.consumed })) s.sentEnd = true;
          break;
        }
        case 1: { // the program sends
          const length = Math.min(1 + next(8192), s.toGuest.length - s.given);
          s.program.outbox.push(...s.toGuest.subarray(s.given, s.given + length));
          s.given += length;
          if (s.given === s.toGuest.length) s.program.ended = true;
          guest.programs.notify(s.program);
          break;
        }
        case 2: // the program reads
          s.program.received.push(...s.program.inbox.splice(0, 1 + next(s.program.capacity)));
          guest.programs.notify(s.program);
          break;
        case 3: // the guest reads
          for (const packet of guest.packets()) {
            const to = streams.find((candidate) => candidate.hostPort === packet.hostPort)!;
            to.hostBuffer = packet.bufferBytes;
            to.hostForwarded = packet.forwarded;
            if (packet.op === 5) to.got.push(...packet.data);
            else if (packet.op === 4) to.sawEnd = true;
            else if (packet.op !== 6) t.fail(`seed ${seed}: unexpected op ${packet.op}`);
          }
          break;
        case 4: // the guest consumes
          s.consumed = s.got.length;
          guest.send({ hostPort: s.hostPort, guestPort: 1024, op: 6, forwarded: s.consumed });
          break;
        default: guest.settle();
      }
    }
    for (const s of streams) {
      if (Buffer.compare(Buffer.from(s.program.received), s.toHost) !== 0 || Buffer.compare(Buffer.from(s.got), s.toGuest) !== 0) t.fail(`seed ${seed}: bytes differ`);
    }
    if (guest.faults.length > 0) t.fail(`seed ${seed}: ${guest.faults[0]!.message}`);
  }
  t.pass();
});

t.test('random bytes in the rings and in packets end the device or are ignored, and touch nothing else', async (t) => {
  let faults = 0;
  for (let seed = 1; seed <= Number(process.env['RKT_TEST_ROUNDS'] ?? 30) * 20; seed++) {
    const { next, bytes } = random(seed);
    const guest = makeGuest({ eventIndex: seed % 2 === 0, onGuestConnect: (port) => (port % 2 === 0 ? guest.programs.add().fd : null) });
    await established(guest);
    for (let round = 0; round < 40; round++) {
      const at = [RECEIVE_AT, TRANSMIT_AT, RECEIVE_BUFFERS, TRANSMIT_BUFFERS][next(4)]! + next(round % 4 === 0 ? 0x300 : 0x2000);
      const noise = next(3) === 0 ? bytes(1 + next(8)) : Uint8Array.of([0, 1, 2, 4, 0xff][next(5)]!);
      guest.memory.bytes.set(noise, at);
      const packet = { hostPort: next(4), guestPort: next(4), op: next(9), flags: next(5), data: bytes(next(50)), bufferBytes: next(2) * 0xffffffff, forwarded: next(1000) };
      for (const program of guest.programs.programs.values()) {
        program.outbox.push(1, 2, 3);
        program.inbox.splice(0);
        guest.programs.notify(program);
      }
      try {
        guest.send(packet);
        guest.packets();
      } catch {
        // The driver's own books are broken by now; the device must live on.
      }
      guest.settle();
    }
    faults += guest.faults.length;
    if (guest.faults.length > 1) t.fail(`seed ${seed}: a device that has ended faulted again`);
  }
  t.ok(faults > 0, `the noise hit (${faults} faults)`);
});
