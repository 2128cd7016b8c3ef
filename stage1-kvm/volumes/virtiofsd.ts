/** virtiofsd as Debian 12 has it (C, part of QEMU 7.2) and as later releases have it (Rust): which is here, and what it is told. */
import { exists } from '../../runtime/linux/files.ts';
import { Stage1Error } from '../error.ts';

interface Program {
  path: string;
  arguments(share: SharedDirectory): string[];
}

export interface SharedDirectory {
  /** Listening socket. */
  socketFd: number;
  directory: string;
  /** What is mounted below it is shown as file systems of their own, so that inode numbers stay unique. */
  hasSubmounts: boolean;
}

/** Not even in its own namespaces: files of a guest are no devices, and no program of a guest gets rights from its file. */
const DROPPED_CAPABILITIES = '-mknod:-setfcap:-fsetid';

/** Both enter namespaces of their own, make the directory their root, and filter their system calls. Attributes are off unless asked for. */
const PROGRAMS: readonly Program[] = [
  {
    path: '/usr/libexec/virtiofsd',
    arguments: ({ socketFd, directory, hasSubmounts }) => [
      `--fd=${socketFd}`, `--shared-dir=${directory}`, '--sandbox=namespace', '--seccomp=kill', '--cache=auto', '--inode-file-handles=never', '--log-level=warn',
      `--modcaps=${DROPPED_CAPABILITIES}`, ...(hasSubmounts ? ['--announce-submounts'] : []),
    ],
  },
  {
    path: '/usr/lib/qemu/virtiofsd',
    arguments: ({ socketFd, directory, hasSubmounts }) => [
      '-f', `--fd=${socketFd}`, '-o', `source=${directory}`, '-o', 'sandbox=namespace', '-o', 'cache=auto', '-o', 'no_xattr', '-o', 'log_level=warn',
      '-o', `modcaps=${DROPPED_CAPABILITIES}`, ...(hasSubmounts ? ['-o', 'announce_submounts'] : []),
    ],
  },
];

/** @throws Stage1Error naming the package to install */
export function findVirtiofsd(): Program {
  const program = PROGRAMS.find(({ path }) => exists(path));
  if (program === undefined) throw new Stage1Error('virtiofsd is not installed, and volumes of kind "host" need it', 'install it: apt-get install qemu-system-common (Debian 12) or virtiofsd (later)');
  return program;
}
