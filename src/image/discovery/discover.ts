/**
 * From an appc image name to where the image, its signature and the keys of its signer are: the page at
 * `https://NAME?ac-discovery=1`, then the one above it, up to the host's own.
 */
import { RktError } from '../../error.ts';
import { isACIdentifier } from '../../schema/names.ts';
import type { AppcName, DiscoverAci, FetchDocument } from '../verification.ts';
import { findingsOf } from './templates.ts';
import type { PageFindings } from './templates.ts';

const PAGE_LIMIT_BYTES = 2 << 20;
const MAX_PARTS = 32;

export interface PageOptions {
  fetchDocument: FetchDocument;
  /** Ask over plain http when https fails. */
  allowHttp: boolean;
  /** Believe what a page that came over plain http says about keys. */
  allowHttpKeys: boolean;
}

/** Called with why a page was of no help. */
type OnFailure = (reason: string) => void;

export const discoverAci: DiscoverAci = async (app, options) => {
  const failures: string[] = [];
  const pages = walk(app, { fetchDocument: options.fetchDocument, allowHttp: options.insecure.http, allowHttpKeys: options.insecure.pubkey }, (reason) => failures.push(reason));
  let candidates: PageFindings['candidates'] = [];
  let publicKeyUrls: string[] = [];
  for await (const { prefix, findings } of pages) {
    if (candidates.length === 0) candidates = findings.candidates;
    if (publicKeyUrls.length === 0) publicKeyUrls = findings.publicKeyUrls;
    if (candidates.length === 0) failures.push(`${prefix}: no such tag for it`);
    // Keys may be named further up than images; without verification nobody needs them.
    else if (publicKeyUrls.length > 0 || options.insecure.image) break;
  }
  if (candidates.length === 0) throw notFound(app.name, 'ac-discovery', failures);
  return { candidates, publicKeyUrls };
};

/** URLs of the keys that a prefix names for itself. Throws RktError NOT_FOUND. */
export async function discoverPublicKeys(prefix: string, options: PageOptions): Promise<string[]> {
  const failures: string[] = [];
  for await (const { prefix: page, findings } of walk({ name: prefix, labels: {} }, options, (reason) => failures.push(reason))) {
    if (findings.publicKeyUrls.length > 0) return findings.publicKeyUrls;
    failures.push(`${page}: no such tag for it`);
  }
  throw notFound(prefix, 'ac-discovery-pubkeys', failures);
}

/** The pages that could be read, the one of the whole name first. */
async function* walk(app: AppcName, options: PageOptions, onFailure: OnFailure): AsyncGenerator<{ prefix: string; findings: PageFindings }> {
  if (!isACIdentifier(app.name)) throw new RktError('BAD_INPUT', `${JSON.stringify(app.name)} is no image name: ACIdentifier must contain only lower case alphanumeric characters plus "-._~/"`);
  const parts = app.name.split('/');
  if (parts.length > MAX_PARTS) throw new RktError('LIMIT', `${app.name}: more than ${MAX_PARTS} parts`);
  for (let length = parts.length; length > 0; length--) {
    const prefix = parts.slice(0, length).join('/');
    const page = await readPage(prefix, options, onFailure);
    if (page === undefined) continue;
    const findings = findingsOf(page.html, app);
    yield { prefix, findings: page.secure || options.allowHttpKeys ? findings : { ...findings, publicKeyUrls: [] } };
  }
}

async function readPage(prefix: string, options: PageOptions, onFailure: OnFailure): Promise<{ html: string; secure: boolean } | undefined> {
  const reasons: string[] = [];
  for (const scheme of options.allowHttp ? ['https', 'http'] : ['https']) {
    try {
      const { bytes, url } = await options.fetchDocument(`${scheme}://${prefix}?ac-discovery=1`, { limitBytes: PAGE_LIMIT_BYTES, accept: 'text/html' });
      return { html: Buffer.from(bytes).toString('utf8'), secure: scheme === 'https' && url.startsWith('https:') };
    } catch (error) {
      if (!(error instanceof RktError)) throw error;
      reasons.push(error.message);
    }
  }
  onFailure(`${prefix}: ${reasons.join('; ')}`);
  return undefined;
}

function notFound(name: string, tag: string, failures: readonly string[]): RktError {
  return new RktError('NOT_FOUND', `discovery failed for ${JSON.stringify(name)}: meta tag '${tag}' not found: ${failures.join('; ')}`);
}
