/** `rkt trust`: keys from files, web servers and discovery, and what a person is asked. */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeGpg } from './helpers/gpg.ts';
import type { Gpg } from './helpers/gpg.ts';
import { makeNamedWeb } from './helpers/named-web.ts';
import { makeHost, PROGRAM } from './helpers/rkt.ts';
import type { Host, RunResult } from './helpers/rkt.ts';
import { onTerminal } from './helpers/terminal.ts';
import { makeTufServer } from './helpers/tuf-repository.ts';

interface Bench {
  host: Host;
  gpg: Gpg;
  localDir: string;
  /** A key of its own and the file that holds it. */
  makeKey(userId: string): { fingerprint: string; file: string };
  trust(args: readonly string[], env?: Record<string, string>): Promise<RunResult>;
  command(args: readonly string[]): string[];
  trusted(): string[];
}

function makeBench(t: { teardown(action: () => void): void }): Bench {
  const host = makeHost('trust');
  t.teardown(host.close);
  const gpg = makeGpg(t);
  const localDir = join(host.workDir, 'etc');
  const configFlags = [`--local-config=${localDir}`, `--system-config=${join(host.workDir, 'usr')}`];
  return {
    host,
    gpg,
    localDir,
    makeKey: (userId) => {
      const fingerprint = gpg.makeKey(userId);
      const file = join(host.workDir, `${fingerprint}.asc`);
      writeFileSync(file, gpg.exportKey(fingerprint));
      return { fingerprint, file };
    },
    trust: (args, env = {}) => host.rkt([...configFlags, 'trust', ...args], { env }),
    command: (args) => [PROGRAM, `--dir=${host.dataDir}`, ...configFlags, 'trust', ...args],
    trusted: () => (existsSync(localDir) ? (readdirSync(localDir, { recursive: true }) as string[]).filter((name) => /\/[0-9a-f]{40}$/.test(name)).sort() : []),
  };
}

/** As gpg writes it: ten groups, the middle gap wider. */
function grouped(fingerprint: string): string {
  const groups = fingerprint.toUpperCase().match(/.{4}/g) ?? [];
  return `${groups.slice(0, 5).join(' ')}  ${groups.slice(5).join(' ')}`;
}

t.test('a key from a file, for a prefix and for everything', async (t) => {
  const bench = makeBench(t);
  const { fingerprint, file } = bench.makeKey('Builder <builder@example.com>');
  const path = join(bench.localDir, 'trustedkeys/prefix.d/example.com/app', fingerprint);
  const { status, stdout, stderr } = await bench.trust(['--prefix', 'example.com/app', '--skip-fingerprint-review', file]);
  t.equal(status, 0, stderr);
  t.equal(stdout.toString(), [`gpg key fingerprint is: ${grouped(fingerprint)}`, '\tBuilder <builder@example.com>', `Trusting "${file}" for prefix "example.com/app" without fingerprint review.`, `Added key for prefix "example.com/app" at "${path}"`, ''].join('\n'));
  t.equal(stderr, `pubkey: prefix: "example.com/app"\nkey: "${file}"\n`);
  // gpg takes what was stored for the same key.
  t.match(bench.gpg.run(['--show-keys', '--with-colons', path]).toString(), new RegExp(`fpr:+${fingerprint.toUpperCase()}:`));
  t.match(readFileSync(path, 'latin1'), /^-----BEGIN PGP PUBLIC KEY BLOCK-----/);

  const root = await bench.trust(['--root', '--skip-fingerprint-review', file]);
  t.match(root.stdout.toString(), `Added root key at "${join(bench.localDir, 'trustedkeys/root.d', fingerprint)}"\n`);
});

t.test('subkeys are shown; every key of a file is stored; binary keys are keys', async (t) => {
  const bench = makeBench(t);
  const [first, second] = [bench.makeKey('First <1@example.com>'), bench.makeKey('Second \u001b[31mred <2@example.com>')];
  bench.gpg.run(['--quick-add-key', first.fingerprint, 'ed25519', 'sign', 'never']);
  const file = join(bench.host.workDir, 'both');
  for (const content of [Buffer.concat([bench.gpg.exportKey(first.fingerprint), bench.gpg.exportKey(second.fingerprint)]), bench.gpg.run(['--export'])]) {
    writeFileSync(file, content);
    const { status, stdout } = await bench.trust(['--prefix=example.com', '--skip-fingerprint-review', file]);
    t.equal(status, 0);
    t.match(stdout.toString(), /\n {4}Subkey fingerprint: (?:[0-9A-F]{4} ){5}/);
    t.notMatch(stdout.toString(), '\u001b', 'nothing that steers a terminal');
    t.strictSame(bench.trusted(), [first.fingerprint, second.fingerprint].sort().map((fingerprint) => `trustedkeys/prefix.d/example.com/${fingerprint}`));
  }
});

t.test('refused, with rkt’s words', async (t) => {
  const bench = makeBench(t);
  const { fingerprint, file } = bench.makeKey('Key <k@example.com>');
  const privateKey = join(bench.host.workDir, 'private.asc');
  writeFileSync(privateKey, bench.gpg.run(['--armor', '--export-secret-keys', fingerprint]));
  const noKey = join(bench.host.workDir, 'nokey');
  writeFileSync(noKey, 'hello');
  const signature = join(bench.host.workDir, 'signature');
  writeFileSync(signature, bench.gpg.sign(noKey, fingerprint));
  const cases: [string[], string | RegExp][] = [
    [[], '--prefix or --root is required'],
    [[file], 'aborting due to implicit unbounded trust (root domain)'],
    [['--root', '--prefix=example.com', file], '--root and --prefix usage mutually exclusive'],
    [['--prefix=https://example.com', file], '--prefix must not contain a URL scheme, omit https://'],
    [['--prefix=../../etc', file], /no beginning of an image name/],
    [['--prefix=Example.com', file], /no beginning of an image name/],
    [['--root'], 'error determining key location: empty prefix'],
    [['--root', 'http://example.com/key'], '--insecure-allow-http required for http URLs'],
    [['--root', 'ftp://example.com/key'], 'only local files and http or https URLs supported'],
    [['--root', 'missing'], /error accessing the key .*missing: no such file or directory/],
    [['--root', '--skip-fingerprint-review', noKey], /nokey: not an OpenPGP public key/],
    [['--root', '--skip-fingerprint-review', signature], /expected -----BEGIN PGP PUBLIC KEY BLOCK-----, found "-----BEGIN PGP SIGNATURE-----"/],
    [['--root', '--skip-fingerprint-review', privateKey], /expected -----BEGIN PGP PUBLIC KEY BLOCK-----, found "-----BEGIN PGP PRIVATE KEY BLOCK-----"/],
    [['--root', file], 'error reviewing key: unable to ask user to review fingerprint due to lack of tty'],
  ];
  for (const [args, message] of cases) {
    const { status, stderr } = await bench.trust(args);
    t.equal(status, 254, args.join(' '));
    t.match(stderr, message);
  }
  t.strictSame(bench.trusted(), []);
});

t.test('a person is asked until there is an answer', async (t) => {
  const bench = makeBench(t);
  const { fingerprint, file } = bench.makeKey('Asked <a@example.com>');
  const question = 'Are you sure you want to trust this key (yes/no)?';
  const refusedScreen = await onTerminal(bench.command(['--prefix=example.com', file]), [[question, 'no\n']]);
  t.match(refusedScreen, { status: 0, screen: `pubkey: not trusting "${file}"` });
  t.strictSame(bench.trusted(), []);
  const accepted = await onTerminal(bench.command(['--prefix=example.com', file]), [[question, 'y\n'], [`Please enter 'yes' or 'no'\n${question}`.replace('\n', '\r\n'), 'yes\n']]);
  t.match(accepted, { status: 0, screen: `Trusting "${file}" for prefix "example.com" after fingerprint review.` });
  t.strictSame(bench.trusted(), [`trustedkeys/prefix.d/example.com/${fingerprint}`]);
});

t.test('keys that a name’s pages tell, over https', async (t) => {
  const bench = makeBench(t);
  const { fingerprint } = bench.makeKey('Discovered <d@example.com>');
  const web = await makeNamedWeb(t, ['example.com', 'keys.example.com']);
  web.pages.set('https://example.com', { body: '<html><head><meta name="ac-discovery-pubkeys" content="example.com https://keys.example.com/keys.gpg"></head></html>' });
  web.pages.set('https://keys.example.com/keys.gpg', { body: bench.gpg.exportKey(fingerprint) });

  const unattended = await bench.trust(['--prefix=example.com/app'], web.env);
  t.equal(unattended.status, 254);
  t.match(unattended.stderr, 'To trust the key for "example.com/app", do one of the following:');
  t.strictSame(bench.trusted(), []);

  const { status, stdout, stderr } = await bench.host.rkt([`--local-config=${bench.localDir}`, '--trust-keys-from-https', 'trust', '--prefix=example.com/app'], { env: web.env });
  t.equal(status, 0, stderr);
  t.match(stdout.toString(), 'Trusting "https://keys.example.com/keys.gpg" for prefix "example.com/app" without fingerprint review.');
  t.strictSame(bench.trusted(), [`trustedkeys/prefix.d/example.com/app/${fingerprint}`]);
  t.strictSame(web.asked.slice(-3), ['https://example.com/app?ac-discovery=1', 'https://example.com/?ac-discovery=1', 'https://keys.example.com/keys.gpg']);

  const untrusted = await bench.trust(['--prefix=example.com/other'], { ...web.env, NODE_EXTRA_CA_CERTS: '' });
  t.match(untrusted, { status: 254, stderr: /discovery failed for "example.com\/other": .*certificate/ });
  const nothing = await bench.trust(['--prefix=keys.example.com'], web.env);
  t.match(nothing, { status: 254, stderr: /discovery failed for "keys\.example\.com": meta tag 'ac-discovery-pubkeys' not found/ });
});

t.test('plain http only when it is asked for', async (t) => {
  const bench = makeBench(t);
  const { fingerprint } = bench.makeKey('Plain <p@example.com>');
  const web = await makeNamedWeb(t, ['other.example']);
  web.pages.set('http://example.com', { body: '<meta name="ac-discovery-pubkeys" content="example.com http://example.com/keys.gpg">' });
  web.pages.set('http://example.com/keys.gpg', { body: bench.gpg.exportKey(fingerprint) });
  t.match(await bench.trust(['--prefix=example.com', '--skip-fingerprint-review'], web.env), { status: 254 });
  t.ok(web.asked.every((url) => url.startsWith('https:')));
  t.match(await bench.trust(['--prefix=example.com', '--skip-fingerprint-review', '--insecure-allow-http'], web.env), { status: 0 });
  t.strictSame(bench.trusted(), [`trustedkeys/prefix.d/example.com/${fingerprint}`]);
});

t.test('a TUF repository: its root from a file, or after a question', async (t) => {
  const bench = makeBench(t);
  const web = await makeNamedWeb(t, ['tuf.example.com']);
  const server = makeTufServer('https://tuf.example.com/repo');
  server.publish({ targets: {} });
  const publish = (): void => {
    for (const [name, body] of server.files) web.pages.set(`${server.url}/${name}`, { body });
  };
  publish();
  const rootFile = join(bench.host.workDir, 'root.json');
  writeFileSync(rootFile, server.root());
  const { status, stdout, stderr } = await bench.trust([`--tuf=${server.url}`, '--prefix=docker.io/library', rootFile], web.env);
  t.equal(status, 0, stderr);
  t.match(stdout.toString(), /^root metadata version 1, expires .*\n {4}Root key: [0-9a-f]{64}\n {4}1 of them must sign a new root\nTrusting "https:\/\/tuf\.example\.com\/repo" for images below "docker\.io\/library"\.\nAdded TUF repository at ".*\/tuf\.d\/tuf-example-com-repo-[0-9a-f]{8}\.json"\n$/);
  t.strictSame(readdirSync(join(bench.localDir, 'tuf.d')).length, 2);

  const others = makeBench(t);
  t.match(await others.trust([`--tuf=${server.url}`, '--root'], web.env), { status: 254, stderr: /unable to ask user due to lack of tty\n {2}hint: give the root metadata as a file/ });
  const asked = await onTerminal(others.command([`--tuf=${server.url}`, '--root']), [['Are you sure you want to trust this root (yes/no)?', 'yes\n']], web.env);
  t.match(asked, { status: 0, screen: /for all images\./ });
  t.match(await others.trust([`--tuf=${server.url}`, rootFile, rootFile], web.env), { status: 254, stderr: /at most one file/ });
  t.match(await others.trust(['--tuf=http://tuf.example.com/repo', rootFile], web.env), { status: 254, stderr: /plain http is not allowed/ });
  const stranger = makeTufServer(server.url);
  writeFileSync(rootFile, stranger.root());
  t.match(await others.trust([`--tuf=${server.url}`, rootFile], web.env), { status: 254, stderr: /the TUF repository https:\/\/tuf\.example\.com\/repo is not accepted/ });
});
