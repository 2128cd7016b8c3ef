/** `ac-discovery` and `ac-discovery-pubkeys` tags (appc spec, "App Container Image Discovery"). */
import type { AppcName } from '../verification.ts';
import { metaTags } from './meta-tags.ts';

/** What one page says about a name. */
export interface PageFindings {
  candidates: { aciUrl: string; signatureUrl: string }[];
  publicKeyUrls: string[];
}

const DEFAULT_VERSION = 'latest';

/** Renders the templates of a page that fit the name, in the order of the page. Templates with a variable left over are skipped. */
export function findingsOf(html: string, app: AppcName): PageFindings {
  const findings: PageFindings = { candidates: [], publicKeyUrls: [] };
  for (const { name, content } of metaTags(html)) {
    const text = content.trim();
    const gap = /\s+/.exec(text);
    if (gap === null || !app.name.startsWith(text.slice(0, gap.index))) continue;
    const value = text.slice(gap.index + gap[0].length);
    if (name === 'ac-discovery-pubkeys' && isWebUrl(value)) findings.publicKeyUrls.push(value);
    if (name === 'ac-discovery') {
      const aciUrl = render(value, app, 'aci');
      const signatureUrl = render(value, app, 'aci.asc');
      if (aciUrl !== undefined && signatureUrl !== undefined) findings.candidates.push({ aciUrl, signatureUrl });
    }
  }
  return findings;
}

/** Undefined: a variable has no value, or the result is no http(s) URL. */
function render(template: string, { name, labels }: AppcName, extension: string): string | undefined {
  // One pass, so that a label's value is never taken for a template; a label called "name" or "ext" changes nothing.
  const variables = new Map([...Object.entries(labels), ['version', labels['version'] ?? DEFAULT_VERSION], ['name', name], ['ext', extension]]);
  let complete = true;
  const url = template.replace(/\{([^{}]*)\}/g, (whole, variable: string) => {
    const value = variables.get(variable);
    if (value === undefined) complete = false;
    return value ?? whole;
  });
  return complete && isWebUrl(url) ? url : undefined;
}

function isWebUrl(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text);
}
