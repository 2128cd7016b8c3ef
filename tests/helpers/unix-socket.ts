/** Whether somebody listens on a socket of the file system. Its file is there earlier: from bind on. */
import { readFileSync } from 'node:fs';

/** __SO_ACCEPTCON of include/linux/net.h, as /proc/net/unix shows it. */
const LISTENING = '00010000';

export function isListening(path: string): boolean {
  return readFileSync('/proc/net/unix', 'utf8').split('\n').some((line) => line.endsWith(` ${path}`) && line.split(/\s+/)[3] === LISTENING);
}
