/** The user's terminal while an app owns it: raw, and given back at every kind of end. */
import { getTerminal, getWindowSize, rawSettings, setTerminal, type WindowSize } from '../../runtime/linux/tty.ts';

export interface RawTerminal {
  /** May be called more than once. */
  restore(): void;
  size(): WindowSize;
}

const FALLBACK_SIZE: WindowSize = { rows: 24, cols: 80 };

/** @param fd a terminal */
export function enterRawMode(fd: number): RawTerminal {
  const before = getTerminal(fd);
  setTerminal(fd, rawSettings(before), { drain: true });
  let isRaw = true;
  return {
    restore() {
      if (!isRaw) return;
      isRaw = false;
      setTerminal(fd, before, { drain: true });
    },
    size: () => terminalSize(fd),
  };
}

export function terminalSize(fd: number): WindowSize {
  const size = getWindowSize(fd);
  return size === undefined || size.rows === 0 || size.cols === 0 ? FALLBACK_SIZE : size;
}
