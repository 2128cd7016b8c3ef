/**
 * `<meta>` elements in the head of an HTML page. A small reader of its own (HTML standard, 13.2.5 "Tokenization", as far as
 * a head needs it): every input is accepted, nothing is executed or resolved, and the work is linear in the input.
 */

export interface MetaTag {
  name: string;
  content: string;
}

const MAX_META_TAGS = 1000;

/** Elements whose content is text up to their own end tag. */
const RAW_TEXT_ELEMENTS: ReadonlySet<string> = new Set(['script', 'style', 'title', 'textarea', 'noscript', 'iframe', 'xmp', 'noembed', 'noframes', 'template']);

/** What may stand before and in a head; anything else begins the body. */
const HEAD_ELEMENTS: ReadonlySet<string> = new Set(['html', 'head', 'meta', 'link', 'base', 'basefont', 'bgsound', ...RAW_TEXT_ELEMENTS]);

const SPACE = /[\t\n\f\r ]/;

/** All `<meta name=… content=…>` of the head, in order. */
export function metaTags(html: string): MetaTag[] {
  const found: MetaTag[] = [];
  let at = 0;
  while (found.length < MAX_META_TAGS) {
    const open = html.indexOf('<', at);
    if (open === -1) break;
    if (html.startsWith('<!--', open)) {
      at = behind(html, '-->', open + '<!--'.length);
    } else if (html[open + 1] === '!' || html[open + 1] === '?') {
      at = behind(html, '>', open + 2);
    } else if (/[A-Za-z]/.test(html[open + 1] ?? '') || (html[open + 1] === '/' && /[A-Za-z]/.test(html[open + 2] ?? ''))) {
      const tag = readTag(html, open);
      if (tag === undefined) break;
      at = tag.end;
      if (tag.name === '/head' || (!tag.name.startsWith('/') && !HEAD_ELEMENTS.has(tag.name))) break;
      if (RAW_TEXT_ELEMENTS.has(tag.name)) at = behindRawText(html, tag.name, at);
      const [name, content] = [tag.attributes.get('name'), tag.attributes.get('content')];
      if (tag.name === 'meta' && name !== undefined && content !== undefined) found.push({ name, content });
    } else {
      at = open + 1;
    }
  }
  return found;
}

function behind(text: string, end: string, from: number): number {
  const index = text.indexOf(end, from);
  return index === -1 ? text.length : index + end.length;
}

function behindRawText(html: string, name: string, from: number): number {
  const end = new RegExp(`</${name}[\\t\\n\\f\\r />]`, 'gi');
  end.lastIndex = from;
  return end.exec(html)?.index ?? html.length;
}

/** `end`: behind the `>`. Undefined when the page ends inside the tag. */
interface Tag {
  /** Lower case; with `/` before it for an end tag. */
  name: string;
  attributes: Map<string, string>;
  end: number;
}

function readTag(html: string, open: number): Tag | undefined {
  let at = open + 1;
  const take = (isPart: (character: string) => boolean): string => {
    const start = at;
    while (at < html.length && isPart(html[at] ?? '')) at++;
    return html.slice(start, at);
  };
  const name = (html[at] === '/' ? html[at++] ?? '' : '') + take((character) => !SPACE.test(character) && character !== '/' && character !== '>').toLowerCase();
  const attributes = new Map<string, string>();
  for (;;) {
    take((character) => SPACE.test(character) || character === '/');
    if (at >= html.length) return undefined;
    if (html[at] === '>') return { name, attributes, end: at + 1 };
    const first = at++;
    take((character) => !SPACE.test(character) && character !== '/' && character !== '>' && character !== '=');
    const attribute = html.slice(first, at).toLowerCase();
    take((character) => SPACE.test(character));
    const value = html[at] === '=' ? readValue() : '';
    if (value === undefined) return undefined;
    if (!attributes.has(attribute)) attributes.set(attribute, decodeReferences(value));
  }

  function readValue(): string | undefined {
    at++;
    take((character) => SPACE.test(character));
    const quote = html[at];
    if (quote !== '"' && quote !== "'") return take((character) => !SPACE.test(character) && character !== '>');
    const end = html.indexOf(quote, at + 1);
    if (end === -1) return undefined;
    const value = html.slice(at + 1, end);
    at = end + 1;
    return value;
  }
}

const NAMED_REFERENCES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** The references that a URL in an attribute can need; others stay as they are. */
function decodeReferences(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));/g, (whole, decimal?: string, hex?: string, name?: string) => {
    if (name !== undefined) return NAMED_REFERENCES[name] ?? whole;
    const codePoint = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal);
    return codePoint > 0 && codePoint <= 0x10_ffff && (codePoint < 0xd800 || codePoint > 0xdfff) ? String.fromCodePoint(codePoint) : '\ufffd';
  });
}
