/**
 * The state of a pod's TPM before its first start. It has no keys: the key that signs a pod's quotes comes from a seed that
 * each start makes anew, so that a copy of a template is as good as a state made for the pod, and takes no time.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { openStore } from '../store/index.ts';

/** Name of swtpm's file. */
const STATE_FILE = 'tpm2-00.permall';
/** All that are active, and so all that are extended. */
export const TPM_BANKS = 'sha256,sha384';

/** Below the pod directory; its being there means that the pod has a TPM. */
export const TPM_STATE_DIRECTORY = 'tpm/state';

/** Throws RktError MISSING_DEPENDENCY when the template has to be made and swtpm is not there. */
export function createTpmState(dataDir: string, podDir: string): void {
  const template = join(dataDir, 'tpm', 'template', STATE_FILE);
  if (statSync(template, { throwIfNoEntry: false }) === undefined) makeTemplate(dataDir, template);
  const directory = join(podDir, TPM_STATE_DIRECTORY);
  mkdirSync(dirname(directory), { mode: 0o750 });
  mkdirSync(directory, { mode: 0o700 });
  copyFileSync(template, join(directory, STATE_FILE));
}

function makeTemplate(dataDir: string, template: string): void {
  const workspace = openStore(dataDir).openWorkspace();
  try {
    setUpTpm(workspace.path, ['--pcr-banks', TPM_BANKS]);
    mkdirSync(dirname(template), { recursive: true, mode: 0o750 });
    // Two processes that get here at once each make a good one.
    renameSync(join(workspace.path, STATE_FILE), template);
  } finally {
    workspace.remove();
  }
}

/** Runs swtpm_setup on an empty directory. Throws RktError. */
export function setUpTpm(directory: string, options: readonly string[]): void {
  const result = spawnSync('swtpm_setup', ['--tpm2', '--tpmstate', directory, '--overwrite', ...options], { encoding: 'utf8', env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' } });
  if (isErrno(result.error, 'ENOENT')) throw swtpmMissing('swtpm_setup', result.error);
  if (result.error !== undefined || result.status !== 0) throw new RktError('IO', `swtpm_setup could not make the state of a TPM: ${`${result.stdout}${result.stderr}`.trim()}`, { cause: result.error });
}

export function swtpmMissing(program: string, cause: unknown): RktError {
  return new RktError('MISSING_DEPENDENCY', `${program} is not installed: it makes the TPM of pods`, { hint: 'apt-get install swtpm swtpm-tools, or run without a TPM: --tpm=off', cause });
}
