/**
 * The host's own vhost-vsock driver, through AF_VSOCK sockets. Only on request (`--vsock=kernel`): its addresses are
 * host-wide and any local user may connect to them, which the device in this process does not allow.
 */
import { EADDRINUSE, EINTR, ENOENT, EPOLLIN, EPOLLOUT, O_RDWR, VHOST_VSOCK_SET_GUEST_CID } from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { close, ioctl } from '../../runtime/linux/fds.ts';
import { open } from '../../runtime/linux/files.ts';
import { randomBytes } from '../../runtime/linux/random.ts';
import { connectVsock, socketError } from '../../runtime/linux/sockets.ts';
import { once, sleep } from '../../runtime/loop.ts';
import { CONTROL_PORT } from '../../src/wire/messages.ts';
import { Stage1Error } from '../error.ts';
import type { Transport } from './transport.ts';

const DEVICE = '/dev/vhost-vsock';
const FIRST_CID = 3;
const CID_ATTEMPTS = 64;
const POLL_INTERVAL_MS = 20;

/** @throws Stage1Error when the host has no such driver */
export function startKernelTransport(): Transport {
  const qemuFd = openDevice();
  const guestCid = takeCid(qemuFd);
  let isOpen = true;
  const openPort = async (port: number): Promise<number> => {
    const fd = connectVsock(guestCid, port);
    await once(fd, EPOLLIN | EPOLLOUT);
    const errno = socketError(fd);
    if (errno === 0) return fd;
    close(fd);
    throw new SysError(`connect vsock:${guestCid}:${port}`, errno);
  };
  // The driver does not tell of refused connections, so the guest's knock cannot arrive: ask until it answers.
  const waitForAgent = async (): Promise<void> => {
    while (isOpen) {
      try {
        close(await openPort(CONTROL_PORT));
        return;
      } catch (error) {
        if (!(error instanceof SysError)) throw error;
        await sleep(POLL_INTERVAL_MS);
      }
    }
  };
  return {
    agentListens: waitForAgent(),
    qemuFd,
    guestCid,
    qemuStarted: () => close(qemuFd),
    open: openPort,
    close: () => {
      isOpen = false;
    },
  };
}

function openDevice(): number {
  try {
    return open(DEVICE, O_RDWR);
  } catch (error) {
    if (isErrno(error, ENOENT)) throw new Stage1Error(`${DEVICE} does not exist`, 'load the module vhost_vsock, or leave out --vsock=kernel');
    throw error;
  }
}

/** The address must be unique on the host: QEMU sets the same one on the same descriptor again. */
function takeCid(fd: number): number {
  for (let attempt = 0; ; attempt++) {
    const random = new DataView(randomBytes(4).buffer).getUint32(0, true);
    const cid = FIRST_CID + (random % (0x7fffffff - FIRST_CID));
    try {
      ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, new BigUint64Array([BigInt(cid)]), 'VHOST_VSOCK_SET_GUEST_CID');
      return cid;
    } catch (error) {
      if (!isErrno(error, EADDRINUSE, EINTR) || attempt >= CID_ATTEMPTS) throw error;
    }
  }
}
