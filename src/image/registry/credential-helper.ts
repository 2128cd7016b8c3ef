/** Programs that keep secrets: `docker-credential-NAME get`, the registry on standard input, JSON on standard output. */
import { execFile } from 'node:child_process';
import { RktError } from '../../error.ts';
import type { Credentials } from './authorization.ts';

const TIME_LIMIT_MS = 30_000;
const OUTPUT_MAX_BYTES = 1 << 20;
/** What a helper calls an identity token. */
const TOKEN_USER = '<token>';
const NOT_FOUND = /credentials not found|no credentials server URL|no credentials username/i;

/** Undefined when the helper knows nothing about the registry. Throws RktError PERMISSION, MISSING_DEPENDENCY, BAD_INPUT. */
export async function askHelper(helper: string, host: string, env: Record<string, string | undefined>): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(helper)) throw new RktError('BAD_INPUT', `credential helper ${JSON.stringify(helper)}: not a name of a program`);
  const program = `docker-credential-${helper}`;
  const output = await outputOf(program, host, env);
  if (output === undefined) return undefined;
  let user: unknown;
  let secret: unknown;
  try {
    ({ Username: user, Secret: secret } = JSON.parse(output) as { Username?: unknown; Secret?: unknown });
  } catch (cause) {
    throw new RktError('BAD_INPUT', `${program}: its answer is not valid JSON`, { cause });
  }
  if (typeof user !== 'string' || typeof secret !== 'string') throw new RktError('BAD_INPUT', `${program}: expected Username and Secret in its answer`);
  if (user === '' && secret === '') return undefined;
  return user === TOKEN_USER ? { kind: 'identity-token', token: secret } : { kind: 'basic', user, password: secret };
}

function outputOf(program: string, host: string, env: Record<string, string | undefined>): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, ['get'], { env: env as NodeJS.ProcessEnv, timeout: TIME_LIMIT_MS, maxBuffer: OUTPUT_MAX_BYTES }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      if (error.code === 'ENOENT') return reject(new RktError('MISSING_DEPENDENCY', `the credential helper ${program} is not installed`, { cause: error }));
      // Helpers complain on standard output.
      if (NOT_FOUND.test(stdout) || NOT_FOUND.test(stderr)) return resolve(undefined);
      reject(new RktError('PERMISSION', `the credential helper ${program} failed for ${host}: ${(stdout.trim() || stderr.trim() || error.message).slice(0, 200)}`, { cause: error }));
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(host);
  });
}
