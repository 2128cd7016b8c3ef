/** Finding images by name: pages, templates, the way up. */
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { discoverAci, discoverPublicKeys } from '../../src/image/discovery/discover.ts';
import { metaTags } from '../../src/image/discovery/meta-tags.ts';
import { findingsOf } from '../../src/image/discovery/templates.ts';
import type { VerificationOptions } from '../../src/image/verification.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { seededRandom } from '../helpers/random.ts';
import type { SeededRandom } from '../helpers/random.ts';

t.test('meta elements of the head, and nothing else', async (t) => {
  const one = [{ name: 'n', content: 'c' }];
  const found: [string, object[]][] = [
    ['<meta name="n" content="c">', one],
    ["<!DOCTYPE html><HTML><Head><META CONTENT='c' NAME=n /></head>", one],
    ['<meta\n\tname = "n"\f content\r=c>', one],
    ['<meta name="n" name="other" content="c" content="d">', one],
    ['<meta name="n" content="a&amp;b &#x41;&#66; &lt;&quot;&apos;&gt; &nosuch; &#0;">', [{ name: 'n', content: 'a&b AB <"\'> &nosuch; \ufffd' }]],
    ['<link rel=x><base href="/"><title><meta name=n content=no></title><meta name=n content=c>', one],
    ['<script>if (a<b) "<meta name=n content=no>"</script><style><meta name=n content=no></style><meta name=n content=c>', one],
    ['<!-- <meta name=n content=no> --><meta name=n content=c>', one],
    ['<?xml version="1.0"?><meta name=n content=c>', one],
    ['a < b <meta name=n content=c>', one],
    ['<meta name=n content=c></head><meta name=m content=no>', one],
    ['<meta name=n content=c><body><meta name=m content=no>', one],
    ['<meta name=n content=c><div><meta name=m content=no></div>', one],
    ['<meta name=n><meta content=c><meta>', []],
    ['<meta name=n content="never ends', []],
    ['<meta name=n content=c', []],
    ['', []],
    ['<', []],
    ['</', []],
    ['<!--', []],
    ['<title>never ends<meta name=n content=no>', []],
  ];
  for (const [html, expected] of found) t.strictSame(metaTags(html), expected, html);
});

const APP = { name: 'example.com/team/app', labels: { version: '1.2', os: 'linux', arch: 'amd64' } };

t.test('templates', async (t) => {
  const page = (...contents: string[]): string => contents.map((content) => `<meta name="ac-discovery" content="${content}">`).join('');
  const urls = (html: string, app = APP): string[] => findingsOf(html, app).candidates.map(({ aciUrl }) => aciUrl);
  t.strictSame(findingsOf(page('example.com https://storage.example.com:8443/{os}/{arch}/{name}-{version}.{ext}'), APP).candidates, [
    { aciUrl: 'https://storage.example.com:8443/linux/amd64/example.com/team/app-1.2.aci', signatureUrl: 'https://storage.example.com:8443/linux/amd64/example.com/team/app-1.2.aci.asc' },
  ]);
  t.strictSame(urls(page('example.com https://a/{name}-{version}.{ext}'), { ...APP, labels: { ...APP.labels, version: undefined as unknown as string } }), ['https://a/example.com/team/app-latest.aci'], 'version defaults to latest');
  t.strictSame(urls(page('example.com https://a/{nosuch}.{ext}', 'example.com https://b/{version}.{ext}', 'example.com https://c/x.{ext}')), ['https://b/1.2.aci', 'https://c/x.aci'], 'in the order of the page');
  t.strictSame(urls(page('other.com https://a/{ext}', 'example.com', 'example.com not-a-url.{ext}', 'example.com file:///etc/{ext}', 'example.com javascript:{ext}')), []);
  t.strictSame(urls(page('  example.com/team   https://a/{ext}  ')), ['https://a/aci']);
  // A value is no template, and no label replaces what a name or extension is.
  const sly = { name: APP.name, labels: { ...APP.labels, version: '{arch}', ext: 'exe', name: 'other' } };
  t.strictSame(urls(page('example.com https://a/{name}/{version}.{ext}'), sly), ['https://a/example.com/team/app/{arch}.aci']);
  t.strictSame(findingsOf('<meta name="ac-discovery-pubkeys" content="example.com https://example.com/k.gpg"><meta name="ac-discovery-pubkeys" content="example.com /etc/passwd"><meta name="ac-discovery-pubkeys" content="other.com https://x/k">', APP).publicKeyUrls, ['https://example.com/k.gpg']);
});

interface Web {
  options: VerificationOptions;
  asked: string[];
}

/** A web of these pages; everything else is not found. */
function makeWeb(pages: Record<string, string>, insecure: Partial<VerificationOptions['insecure']> = {}): Web {
  const asked: string[] = [];
  return {
    asked,
    options: {
      insecure: { image: false, tls: false, http: false, pubkey: false, ...insecure },
      configDirs: [],
      localConfigDir: '/nowhere',
      dataDir: '/nowhere',
      trustKeysFromHttps: false,
      fetchDocument: async (url) => {
        asked.push(url);
        const html = pages[url.replace('?ac-discovery=1', '')];
        if (html === undefined) throw new RktError('NOT_FOUND', `${url}: bad HTTP status code: 404`);
        return { status: 200, bytes: Buffer.from(html), url, headers: new Map() };
      },
      onMessage: () => {},
    },
  };
}

const TEMPLATE = '<meta name="ac-discovery" content="example.com https://s.example.com/{name}-{version}.{ext}">';
const KEYS = '<meta name="ac-discovery-pubkeys" content="example.com https://s.example.com/keys.gpg">';
const URL_OF_APP = 'https://s.example.com/example.com/team/app-1.2.aci';

t.test('the walk up to the host', async (t) => {
  const web = makeWeb({ 'https://example.com/team': `<html>${TEMPLATE}`, 'https://example.com': KEYS + TEMPLATE.replace('s.example', 'late.example') });
  t.strictSame(await discoverAci(APP, web.options), { candidates: [{ aciUrl: URL_OF_APP, signatureUrl: `${URL_OF_APP}.asc` }], publicKeyUrls: ['https://s.example.com/keys.gpg'] });
  t.strictSame(web.asked, ['https://example.com/team/app?ac-discovery=1', 'https://example.com/team?ac-discovery=1', 'https://example.com?ac-discovery=1']);

  const unverified = makeWeb({ 'https://example.com/team/app': TEMPLATE }, { image: true });
  t.match(await discoverAci(APP, unverified.options), { publicKeyUrls: [] });
  t.equal(unverified.asked.length, 1, 'nobody needs keys then');

  const nothing = makeWeb({ 'https://example.com': '<p>hello</p>' });
  await t.rejects(discoverAci(APP, nothing.options), { code: 'NOT_FOUND', message: /^discovery failed for "example\.com\/team\/app": meta tag 'ac-discovery' not found: .*team\/app: .*404.*; example\.com: no such tag/ });
  await t.rejects(discoverAci({ name: '../etc', labels: {} }, nothing.options), { code: 'BAD_INPUT' });
  await t.rejects(discoverAci({ name: Array.from({ length: 40 }, () => 'a').join('/'), labels: {} }, nothing.options), { code: 'LIMIT' });
  await t.rejects(discoverPublicKeys('example.com/x', { ...nothing.options, allowHttp: false, allowHttpKeys: false }), { code: 'NOT_FOUND', message: /'ac-discovery-pubkeys' not found/ });
});

t.test('plain http only when allowed, and keys from it only when that is allowed too', async (t) => {
  const pages = { 'http://example.com': TEMPLATE + KEYS };
  const secure = makeWeb(pages);
  await t.rejects(discoverAci(APP, secure.options), { code: 'NOT_FOUND' });
  t.ok(secure.asked.every((url) => url.startsWith('https:')));
  t.strictSame(await discoverAci(APP, makeWeb(pages, { http: true }).options), { candidates: [{ aciUrl: URL_OF_APP, signatureUrl: `${URL_OF_APP}.asc` }], publicKeyUrls: [] });
  t.match(await discoverAci(APP, makeWeb(pages, { http: true, pubkey: true }).options), { publicKeyUrls: ['https://s.example.com/keys.gpg'] });
  const { fetchDocument } = makeWeb(pages).options;
  t.strictSame(await discoverPublicKeys('example.com/team', { fetchDocument, allowHttp: true, allowHttpKeys: true }), ['https://s.example.com/keys.gpg']);
  await t.rejects(discoverPublicKeys('example.com/team', { fetchDocument, allowHttp: true, allowHttpKeys: false }), { code: 'NOT_FOUND' });
  // A page that was asked for over https and redirected to http is one that came over http.
  const redirected: VerificationOptions['fetchDocument'] = async () => ({ status: 200, bytes: Buffer.from(TEMPLATE + KEYS), url: 'http://example.com/', headers: new Map() });
  t.match(await discoverAci(APP, { ...makeWeb({}, { http: true }).options, fetchDocument: redirected }), { publicKeyUrls: [] });
});

const PIECES = ['<meta name="ac-discovery" content="example.com https://x/{ext}">', '<', '>', '"', "'", '/', '=', ' ', '<!--', '-->', '<meta', 'content=', '<title>', '</title>', '<script>', '&#', '&amp;', ';', '{', '}', '{version}', '\u0000', 'é', '</head>', '<?', '<!'];

function noise(random: SeededRandom): string {
  let text = '';
  for (let count = random.below(60); count > 0; count--) text += random.below(8) === 0 ? Buffer.from(random.bytes(3)).toString('latin1') : random.pick(PIECES);
  return text;
}

function fuzz(seed: number, mayGoOn: (round: number) => boolean): number {
  let found = 0;
  for (let round = 0; mayGoOn(round); round++) {
    const text = noise(seededRandom(seed + round));
    const started = performance.now();
    for (const { aciUrl } of findingsOf(text, APP).candidates) {
      if (!URL.canParse(aciUrl)) throw new Error(`seed ${seed + round}: ${aciUrl}`);
      found++;
    }
    if (performance.now() - started > 1000) throw new Error(`seed ${seed + round} took too long`);
  }
  return found;
}

t.test('pages of noise', async (t) => {
  t.ok(fuzz(1, (round) => round < 8000) > 400, 'much of it is read to the end');
  const started = performance.now();
  for (const piece of PIECES) {
    findingsOf(piece.repeat(100_000), APP);
    findingsOf(`<meta name=ac-discovery content="example.com https://x/${piece.replace('"', '').repeat(100_000)}x">`, APP);
  }
  t.ok(performance.now() - started < 3000, 'long pages take linear time');
});

fuzzForLong('pages of noise', fuzz);
