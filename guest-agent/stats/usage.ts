/** What apps use of the machine, from their cgroups (kernel: Documentation/admin-guide/cgroup-v2.rst). */
import { SysError } from '../../runtime/linux/errors.ts';
import { exists, readText } from '../../runtime/linux/files.ts';
import { uptimeMs } from '../../runtime/linux/time.ts';
import type { AgentMessage, AppUsage } from '../../src/wire/messages.ts';

/** An app as far as it is looked at here. */
export interface CountedApp {
  name: string;
  /** Directory of its cgroup; -1 when it has none. */
  cgroupFd: number;
}

export function usageMessage(request: number, apps: readonly CountedApp[]): Extract<AgentMessage, { type: 'usage' }> {
  return { type: 'usage', request, uptimeMs: uptimeMs(), memoryTotalBytes: memoryTotal(), network: networkUsage(), apps: apps.map(usageOf) };
}

function usageOf({ name, cgroupFd }: CountedApp): AppUsage {
  const read = (file: string): string => readIfAny(`/proc/self/fd/${cgroupFd}/${file}`);
  const cpu = fields(read('cpu.stat'));
  const io = ioOf(read('io.stat'));
  return {
    app: name,
    cpuMicroseconds: cpu.get('usage_usec') ?? 0,
    memoryBytes: count(read('memory.current')) ?? 0,
    memoryPeakBytes: count(read('memory.peak')) ?? 0,
    memoryLimitBytes: count(read('memory.max')) ?? null,
    processes: count(read('pids.current')) ?? 0,
    processesLimit: count(read('pids.max')) ?? null,
    ...io,
  };
}

/** Empty: the kernel has no such controller, or the app no cgroup. */
function readIfAny(path: string): string {
  try {
    return readText(path);
  } catch (error) {
    if (error instanceof SysError) return '';
    throw error;
  }
}

/** Undefined for `max` and for nothing. */
function count(text: string): number | undefined {
  const number = Number(text.trim());
  return text.trim() === '' || !Number.isSafeInteger(number) ? undefined : number;
}

/** Lines of a name and a number. */
function fields(text: string): Map<string, number> {
  return new Map(text.split('\n').flatMap((line): [string, number][] => {
    const [name = '', value = ''] = line.split(' ');
    const number = count(value);
    return number === undefined ? [] : [[name, number]];
  }));
}

/** `8:0 rbytes=1 wbytes=2 …`: of real devices only, since what goes through dm-verity is counted below it as well. */
function ioOf(text: string): Pick<AppUsage, 'readBytes' | 'writtenBytes'> {
  const sums = { readBytes: 0, writtenBytes: 0 };
  for (const line of text.split('\n')) {
    const [device = '', ...pairs] = line.split(' ');
    if (device === '' || exists(`/sys/dev/block/${device}/dm`)) continue;
    for (const pair of pairs) {
      if (pair.startsWith('rbytes=')) sums.readBytes += count(pair.slice('rbytes='.length)) ?? 0;
      else if (pair.startsWith('wbytes=')) sums.writtenBytes += count(pair.slice('wbytes='.length)) ?? 0;
    }
  }
  return sums;
}

const KIB = 1024;

function memoryTotal(): number {
  const line = readText('/proc/meminfo').split('\n').find((text) => text.startsWith('MemTotal:')) ?? '';
  return Number(words(line)[1] ?? 0) * KIB;
}

/** All cards together: apps of a pod share them. */
function networkUsage(): { receivedBytes: number; sentBytes: number } {
  const sums = { receivedBytes: 0, sentBytes: 0 };
  for (const line of readText('/proc/self/net/dev').split('\n').slice(2)) {
    const colon = line.indexOf(':');
    if (colon < 0 || line.slice(0, colon).trim() === 'lo') continue;
    const numbers = words(line.slice(colon + 1));
    sums.receivedBytes += Number(numbers[0] ?? 0);
    sums.sentBytes += Number(numbers[8] ?? 0);
  }
  return sums;
}

function words(text: string): string[] {
  return text.split(' ').filter((word) => word !== '');
}
