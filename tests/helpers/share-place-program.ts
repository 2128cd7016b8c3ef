/** Runs a shell where virtiofsd would run for a source: SCRIPT SOURCE KIND READONLY. What it says goes to standard error. */
import '../../runtime/sys.ts';
import { exit, waitFor } from '../../runtime/linux/process.ts';
import { NR_getgid, NR_getuid } from '../../runtime/abi.gen.ts';
import { duplicate, writeAll } from '../../runtime/linux/fds.ts';
import { startJailed } from '../../stage1-kvm/jail.ts';
import { sharePlace } from '../../stage1-kvm/volumes/share-place.ts';

const [script = '', path = '', kind = '', readOnly = ''] = sys.argv.slice(1);
const uid = sys.call(NR_getuid);
try {
  const place = sharePlace({ path, kind: kind === 'file' ? 'file' : 'directory', readOnly: readOnly === 'true', recursive: true, user: uid === 0 ? null : { uid, gid: sys.call(NR_getgid) } });
  const pid = startJailed({ program: '/bin/sh', arguments: ['-c', `exec 1>&2; ${script}`], fds: [], stderrFd: duplicate(2), ownFds: [], user: null, hostNetwork: false, place });
  const end = waitFor(pid);
  exit(end.kind === 'code' ? end.code : 1);
} catch (error) {
  writeAll(2, sys.utf8(String(error)).subarray(0, -1));
  exit(99);
}
