import { resolve } from 'node:path';
import type { RktError } from '../../error.ts';
import { openNetwork } from '../../image/network.ts';
import type { Network } from '../../image/network.ts';
import type { Reviewer } from '../../image/trust/review.ts';
import { isACIdentifier } from '../../schema/names.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import type { FlagValues } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { networkSettings } from '../network-settings.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome, Reporter } from '../reporter.ts';

interface Wanted {
  /** Empty: trusted for everything. Absent with `--tuf` only. */
  prefix: string | undefined;
  allowHttp: boolean;
  review: boolean;
}

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const wanted = readFlags(values);
  const settings = networkSettings(context);
  const network = openNetwork({ ...settings, insecure: { ...settings.insecure, http: wanted.allowHttp } });
  try {
    const tuf = values.last(flags.tuf);
    if (tuf === undefined) await trustKeys(positional, wanted, { context, network });
    else await trustRepository(tuf, { ...wanted, positional }, { context, network });
  } finally {
    network.close();
  }
  return success(NOTHING);
}

function readFlags(values: FlagValues): Wanted {
  const prefix = values.last(flags.prefix);
  const root = values.last(flags.root) ?? false;
  if (prefix !== undefined && root) throw usage('--root and --prefix usage mutually exclusive');
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(prefix ?? '')?.[1];
  if (scheme !== undefined) throw usage(`--prefix must not contain a URL scheme, omit ${scheme}://`);
  return {
    prefix: root ? '' : prefix,
    allowHttp: values.last(flags.insecureAllowHttp) ?? false,
    review: !(values.last(flags.skipFingerprintReview) ?? false),
  };
}

interface Surroundings {
  context: CommandContext;
  network: Network;
}

async function trustKeys(positional: readonly string[], { prefix, allowHttp, review }: Wanted, { context, network }: Surroundings): Promise<void> {
  if (prefix === undefined) throw positional.length > 0 ? implicitRoot() : usage('--prefix or --root is required');
  if (prefix !== '' && !isACIdentifier(prefix)) throw usage(`--prefix: ${JSON.stringify(prefix)} is no beginning of an image name: ACIdentifier must contain only lower case alphanumeric characters plus "-._~/"`);
  const { fetchDocument } = network.verification;
  const locations = positional.length > 0 ? positional : await discover(prefix, { allowHttp, fetchDocument });
  const { addKeys } = await import('../../image/trust/add-keys.ts');
  await addKeys(locations, { prefix, localConfigDir: context.localConfigDir, cwd: context.cwd, review, trustKeysFromHttps: context.trustKeysFromHttps, allowHttp, fetchDocument, reviewer: await terminalReviewer(context.reporter) });
}

/** rkt's words. */
function implicitRoot(): RktError {
  return usage(
    [
      'aborting due to implicit unbounded trust (root domain)',
      'Please provide a specific domain prefix to trust:',
      '    rkt trust --prefix "example.com/foo" [PUBKEY]',
      'Otherwise, trust at the root domain (not recommended) must be explicitly requested:',
      '    rkt trust --root PUBKEY',
    ].join('\n'),
  );
}

async function discover(prefix: string, { allowHttp, fetchDocument }: { allowHttp: boolean; fetchDocument: Network['verification']['fetchDocument'] }): Promise<string[]> {
  if (prefix === '') throw usage('error determining key location: empty prefix');
  const { discoverPublicKeys } = await import('../../image/discovery/discover.ts');
  return await discoverPublicKeys(prefix, { fetchDocument, allowHttp, allowHttpKeys: allowHttp });
}

async function trustRepository(url: string, { prefix, review, positional }: Wanted & { positional: readonly string[] }, { context, network }: Surroundings): Promise<void> {
  if (positional.length > 1) throw usage('expected at most one file with root metadata');
  const { addTufRepository } = await import('../../image/trust/add-tuf-repository.ts');
  const [rootFile] = positional;
  await addTufRepository(url, {
    ...(prefix === undefined ? {} : { prefix }),
    ...(rootFile === undefined ? {} : { rootFile: resolve(context.cwd, rootFile) }),
    review,
    verification: network.verification,
    reviewer: await terminalReviewer(context.reporter),
  });
}

/** What is asked and answered is on standard output, as with rkt; the rest carries the name of rkt's key manager. */
async function terminalReviewer(reporter: Reporter): Promise<Reviewer> {
  const { canAskTerminal, readLineOfInput } = await import('../../image/trust/review.ts');
  return { show: (text) => reporter.print(text), log: (text) => reporter.status(`pubkey: ${text}\n`), canAsk: canAskTerminal, readLine: readLineOfInput };
}
