/** Work of many small reads and writes, each done before it returns: no signal gets through by itself. */
import { setImmediate } from 'node:timers/promises';
import { RktError } from '../error.ts';

/** To be awaited now and then. Throws RktError STATE when the work shall end. */
export async function goOnUnless(signal: AbortSignal): Promise<void> {
  await setImmediate();
  if (signal.aborted) throw new RktError('STATE', 'interrupted');
}
