/** One line of a log file in the Kubernetes CRI format: `TIME STREAM TAG TEXT`. */

export interface LogRecord {
  /** RFC 3339 in UTC with nanoseconds: sorts as text. */
  time: string;
  stream: 'stdout' | 'stderr';
  /** The line goes on in the next record of its stream. */
  isPartial: boolean;
  text: Buffer;
}

const SPACE = 0x20;
const PARTIAL = 'P';

/** @param line without its newline. Undefined when it is none: what a full disk left of one, for example. */
export function parseRecord(line: Buffer): LogRecord | undefined {
  const afterTime = line.indexOf(SPACE);
  const afterStream = afterTime < 0 ? -1 : line.indexOf(SPACE, afterTime + 1);
  const afterTag = afterStream < 0 ? -1 : line.indexOf(SPACE, afterStream + 1);
  if (afterTag < 0) return undefined;
  const stream = line.toString('latin1', afterTime + 1, afterStream);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  const [tag] = line.toString('latin1', afterStream + 1, afterTag).split(':');
  return { time: line.toString('latin1', 0, afterTime), stream, isPartial: tag === PARTIAL, text: line.subarray(afterTag + 1) };
}
