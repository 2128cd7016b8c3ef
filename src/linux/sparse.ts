/** Where a sparse file has data: lseek(2) with SEEK_DATA and SEEK_HOLE. */
import { fstatSync } from 'node:fs';
import { callInt64, systemCallError } from './libc.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;

export interface Extent {
  offsetBytes: number;
  lengthBytes: number;
}

/** The ranges of an open file that are no holes, in order. */
export function dataExtents(fd: number): Extent[] {
  const sizeBytes = fstatSync(fd).size;
  const extents: Extent[] = [];
  let position = 0;
  while (position < sizeBytes) {
    const data = callInt64('lseek', [fd, position, SEEK_DATA]);
    if (data.errno === ENXIO) break;
    if (data.value === -1) throw systemCallError('cannot find the data of a sparse file', data.errno);
    const hole = callInt64('lseek', [fd, data.value, SEEK_HOLE]);
    if (hole.value === -1) throw systemCallError('cannot find the holes of a sparse file', hole.errno);
    extents.push({ offsetBytes: data.value, lengthBytes: hole.value - data.value });
    position = hole.value;
  }
  return extents;
}
