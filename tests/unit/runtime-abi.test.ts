/** The generated tables are those of the headers they name. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { NR_execve, NR_read, O_CLOEXEC, sizeof_epoll_event, sizeof_dm_ioctl } from '../../runtime/abi.gen.ts';
import { ERRNO_NAMES, SYSCALLS_I386, SYSCALLS_X86_64 } from '../../runtime/syscalls.gen.ts';

const GENERATOR = join(import.meta.dirname, '../../runtime/abi/generate.ts');

/** Only these headers give exactly the committed files. */
function hasDebian12Headers(): boolean {
  const release = readFileSync('/etc/os-release', 'utf8');
  const headers = spawnSync('dpkg-query', ['-W', '-f', '${Version}', 'linux-libc-dev'], { encoding: 'utf8' });
  return release.includes('VERSION_CODENAME=bookworm') && headers.stdout.startsWith('6.1.');
}

t.test('committed tables equal generated ones', { skip: hasDebian12Headers() ? false : 'needs the kernel headers of Debian 12' }, async (t) => {
  const result = spawnSync(process.execPath, [GENERATOR, '--check'], { encoding: 'utf8' });
  t.equal(result.stderr, '');
  t.equal(result.status, 0);
});

t.test('values everybody knows', async (t) => {
  t.equal(NR_read, 0);
  t.equal(NR_execve, 59);
  t.equal(O_CLOEXEC, 0o2000000);
  t.equal(sizeof_epoll_event, 12);
  t.equal(sizeof_dm_ioctl, 312);
  t.equal(SYSCALLS_X86_64.split(' ')[435], 'clone3');
  t.equal(SYSCALLS_I386.split(' ')[11], 'execve');
  t.equal(ERRNO_NAMES.split(' ')[2], 'ENOENT');
});
