/** What src/tpm computes, as the runtime's engine computes it: prints one JSON object that tpm-runtime.test.ts compares with Node's. */
import '../../runtime/sys.ts';
import { writeAll } from '../../runtime/linux/fds.ts';
import { exit } from '../../runtime/linux/process.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { observeTpm } from './tpm-observations.ts';

const observed = observeTpm(sys.argv[1] ?? '', monotonicMs);
writeAll(1, sys.utf8(JSON.stringify(observed)).subarray(0, -1));
exit(0);
