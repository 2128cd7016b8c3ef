import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../src/error.ts';
import { run } from './commands.ts';

/** Version apt would install now. Throws RktError NOT_FOUND if apt's lists do not have the package. */
export async function candidateVersion(packageName: string): Promise<string> {
  const policy = await run('apt-cache', ['policy', packageName]);
  const version = /^ +Candidate: (\S+)$/m.exec(policy)?.[1];
  if (version === undefined || version === '(none)') {
    throw new RktError('NOT_FOUND', `apt knows no package ${packageName}`, { hint: 'apt-get update' });
  }
  return version;
}

/** Version that is installed, or undefined. */
export async function installedVersion(packageName: string): Promise<string | undefined> {
  try {
    const [status, version] = (await run('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Version}', packageName])).split(' ');
    return status === 'installed' ? version : undefined;
  } catch (error) {
    if (error instanceof RktError && error.code === 'IO') return undefined;
    throw error;
  }
}

export interface PackageFiles {
  packageName: string;
  version: string;
  /** Existing directory the package's files go to; nothing gets installed. */
  directory: string;
}

/** Downloads a package (apt checks its signature) and unpacks its files below `directory`. */
export async function unpackPackage({ packageName, version, directory }: PackageFiles): Promise<void> {
  // As root apt would download as user _apt, who cannot write here, and warn about it.
  await run('apt-get', ['download', '-q', '-o', 'APT::Sandbox::User=root', `${packageName}=${version}`], { cwd: directory });
  const file = readdirSync(directory).find((name) => name.startsWith(`${packageName}_`) && name.endsWith('.deb'));
  if (file === undefined) throw new RktError('IO', `apt-get download ${packageName}: no file came`);
  await run('dpkg-deb', ['-x', join(directory, file), directory]);
}
