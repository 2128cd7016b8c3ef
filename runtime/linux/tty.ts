/** Terminals and pseudo-terminals. */
import {
  BRKINT, CS8, CSIZE, ECHO, ECHONL, ICANON, ICRNL, IEXTEN, IGNBRK, IGNCR, INLCR, ISIG, ISTRIP, IXON, NR_ioctl, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR,
  OPOST, PARENB, PARMRK, TCGETS, TCSETS, TCSETSW, TIOCGPTN, TIOCGPTPEER, TIOCGWINSZ, TIOCSPTLCK, TIOCSWINSZ, VMIN, VTIME, sizeof_termios, sizeof_winsize, termios_c_cc,
  termios_c_cflag, termios_c_iflag, termios_c_lflag, termios_c_oflag, winsize_ws_col, winsize_ws_row,
} from '../abi.gen.ts';
import { check } from './errors.ts';
import { close } from './fds.ts';
import { open } from './files.ts';

export interface WindowSize {
  rows: number;
  cols: number;
}

export function isTerminal(fd: number): boolean {
  return sys.call(NR_ioctl, fd, TCGETS, new Uint8Array(sizeof_termios)) === 0;
}

/** The settings as the kernel's struct, to be given back to setTerminal. */
export function getTerminal(fd: number): Uint8Array<ArrayBuffer> {
  const settings = new Uint8Array(sizeof_termios);
  check(sys.call(NR_ioctl, fd, TCGETS, settings), 'TCGETS', fd);
  return settings;
}

/** `drain` waits for pending output first. Returns 0 or -errno: a terminal that is gone is no error worth throwing. */
export function setTerminal(fd: number, settings: Uint8Array, options: { drain?: boolean } = {}): number {
  return sys.call(NR_ioctl, fd, options.drain ? TCSETSW : TCSETS, settings);
}

/** A copy in which every byte passes unchanged and at once (cfmakeraw). */
export function rawSettings(settings: Uint8Array): Uint8Array<ArrayBuffer> {
  const raw = new Uint8Array(settings);
  const view = new DataView(raw.buffer);
  const clear = (offset: number, bits: number, set = 0): void => view.setUint32(offset, (view.getUint32(offset, true) & ~bits) | set, true);
  clear(termios_c_iflag, IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  clear(termios_c_oflag, OPOST);
  clear(termios_c_lflag, ECHO | ECHONL | ICANON | ISIG | IEXTEN);
  clear(termios_c_cflag, CSIZE | PARENB, CS8);
  raw[termios_c_cc + VMIN] = 1;
  raw[termios_c_cc + VTIME] = 0;
  return raw;
}

/** Undefined when the descriptor is no terminal. */
export function getWindowSize(fd: number): WindowSize | undefined {
  const size = new Uint8Array(sizeof_winsize);
  if (sys.call(NR_ioctl, fd, TIOCGWINSZ, size) < 0) return undefined;
  const view = new DataView(size.buffer);
  return { rows: view.getUint16(winsize_ws_row, true), cols: view.getUint16(winsize_ws_col, true) };
}

/** The foreground process group gets SIGWINCH when the size changes. */
export function setWindowSize(fd: number, { rows, cols }: WindowSize): void {
  const size = new Uint8Array(sizeof_winsize);
  const view = new DataView(size.buffer);
  view.setUint16(winsize_ws_row, rows, true);
  view.setUint16(winsize_ws_col, cols, true);
  check(sys.call(NR_ioctl, fd, TIOCSWINSZ, size), 'TIOCSWINSZ', fd);
}

export interface Pty {
  /** Non-blocking. */
  masterFd: number;
  slaveFd: number;
  /** N of /dev/pts/N. */
  number: number;
}

export function openPty(size: WindowSize, ptmxPath = '/dev/ptmx'): Pty {
  const masterFd = open(ptmxPath, O_RDWR | O_NOCTTY | O_NONBLOCK);
  try {
    check(sys.call(NR_ioctl, masterFd, TIOCSPTLCK, new Int32Array(1)), 'TIOCSPTLCK');
    const number = new Uint32Array(1);
    check(sys.call(NR_ioctl, masterFd, TIOCGPTN, number), 'TIOCGPTN');
    const slaveFd = check(sys.call(NR_ioctl, masterFd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), 'TIOCGPTPEER');
    setWindowSize(masterFd, size);
    return { masterFd, slaveFd, number: number[0] ?? 0 };
  } catch (error) {
    close(masterFd);
    throw error;
  }
}
