/** A TPM of its own for whoever needs one: swtpm on one end of a socket pair, commands as they are, nothing in between. */
import { SOCK_STREAM } from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, pipe } from '../../runtime/linux/fds.ts';
import { changeOwner, exists, readDirectory } from '../../runtime/linux/files.ts';
import { pidfdOpen } from '../../runtime/linux/process.ts';
import { socketPair } from '../../runtime/linux/sockets.ts';
import { Stage1Error } from '../error.ts';
import { startJailed } from '../jail.ts';

const SWTPM_PATHS = ['/usr/bin/swtpm', '/usr/local/bin/swtpm'];
/** Users of swtpm, beside those of QEMU: neither may touch what the other has. */
const FIRST_UID = 0x60000000;

export interface Swtpm {
  /** Blocking. */
  fd: number;
  pidfd: number;
  pid: number;
  /** Read end of its standard error. */
  errorFd: number;
}

/** The user of a pod's TPM. Pure. */
export function tpmUserId(uuid: string): number {
  return FIRST_UID + Number.parseInt(uuid.slice(0, 7), 16);
}

/**
 * Started and past TPM2_Startup(CLEAR): all PCRs are zero. Ends with its socket, and with this process.
 * @param user owns the state from now on; null: this process is not root
 * @throws Stage1Error
 */
export function startSwtpm(stateDirectory: string, user: number | null): Swtpm {
  const program = SWTPM_PATHS.find((candidate) => exists(candidate));
  if (program === undefined) throw new Stage1Error('swtpm is not installed', 'install it: apt-get install swtpm, or run without a TPM: --tpm=off');
  const [fd, theirs] = socketPair(SOCK_STREAM);
  const errors = pipe();
  try {
    if (user !== null) giveAway(stateDirectory, user);
    const pid = startJailed({
      program,
      arguments: ['socket', '--tpm2', '--tpmstate', 'dir=.', '--fd', String(theirs), '--flags', 'not-need-init,startup-clear', '--terminate'],
      fds: [theirs],
      stderrFd: errors.writeEnd,
      ownFds: [fd, errors.readEnd],
      user: user === null ? null : { uid: user, gid: user, groups: [] },
      workingDirectory: stateDirectory,
      hostNetwork: false,
    });
    return { fd, pid, pidfd: pidfdOpen(pid), errorFd: errors.readEnd };
  } catch (error) {
    close(fd);
    close(errors.readEnd);
    if (error instanceof SysError) throw new Stage1Error(`starting swtpm: ${error.message}`);
    throw error;
  } finally {
    close(theirs);
    close(errors.writeEnd);
  }
}

function giveAway(directory: string, user: number): void {
  changeOwner(directory, user, user);
  for (const { name } of readDirectory(directory)) changeOwner(`${directory}/${name}`, user, user);
}
