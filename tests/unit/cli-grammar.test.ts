/** Command lines: pflag's way of flags, the image grammar of `run`, and what each flag accepts. */
import t from 'tap';
import { readArguments } from '../../src/cli/flags/flag.ts';
import { readImageArguments } from '../../src/cli/flags/image-arguments.ts';
import { SECURE } from '../../src/cli/flags/insecure.ts';
import { combineNetworks } from '../../src/cli/flags/network.ts';
import * as flags from '../../src/cli/flags/table.ts';
import { RktError } from '../../src/error.ts';

const RUN_FLAGS = [...flags.GLOBAL_FLAGS, ...flags.PREPARE_FLAGS, ...flags.START_FLAGS, flags.uuidFileSave, ...flags.APP_FLAGS];

function parseRun(...argv: string[]): ReturnType<typeof readImageArguments> {
  return readImageArguments(argv, RUN_FLAGS, { appArguments: true });
}

function messageOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof RktError) return error.message;
    throw error;
  }
  return '';
}

t.test('one image with flags and arguments', async (t) => {
  const { pod, images } = parseRun('--net=none', 'a.aci', '--exec', '/bin/sh', '--memory=64M', '--', '-c', 'echo hi; exit 7');
  t.strictSame(pod.last(flags.net), [{ name: 'none' }]);
  t.equal(images.length, 1);
  t.equal(images[0]?.image, 'a.aci');
  t.equal(images[0]?.flags.last(flags.exec), '/bin/sh');
  t.strictSame(images[0]?.flags.last(flags.memory), { name: 'resource/memory', value: { request: '64M', limit: '64M' } });
  t.strictSame(images[0]?.args, ['-c', 'echo hi; exit 7']);
});

t.test('several images: app flags belong to the image before them, pod flags to all', async (t) => {
  const { pod, images } = parseRun('a', '--name=one', '--', 'x', '--', '--exec=y', '---', '--interactive', 'b', '--name', 'two', '---', 'c');
  t.strictSame(images.map(({ image }) => image), ['a', 'b', 'c']);
  t.strictSame(images.map((entry) => entry.flags.last(flags.name)), ['one', 'two', undefined]);
  t.strictSame(images.map(({ args }) => args), [['x', '--', '--exec=y'], [], []]);
  t.equal(pod.last(flags.interactive), true);
});

t.test('--mount before the first image is for all apps', async (t) => {
  const { pod, images } = parseRun('--mount=volume=v,target=/all', 'a', '--mount', 'volume=w,target=/one');
  t.strictSame(pod.all(flags.mount), [{ volume: 'v', path: '/all' }]);
  t.strictSame(images[0]?.flags.all(flags.mount), [{ volume: 'w', path: '/one' }]);
});

t.test('mistakes in the grammar, in rkt\'s words', async (t) => {
  t.equal(messageOf(() => parseRun('--', 'x')), 'an image is required before any app arguments');
  t.equal(messageOf(() => parseRun('a', '--', 'x', '---', '--', 'y')), 'only one set of app arguments allowed per image');
  t.equal(messageOf(() => parseRun('--exec=/x', 'a')), '--exec must follow an image');
  t.equal(messageOf(() => parseRun('--memory', '64M', 'a')), '--memory must follow an image');
  t.equal(messageOf(() => parseRun('a', '--exec=/x', '--exec=/y')), '--exec specified multiple times for the same image');
  t.equal(messageOf(() => readImageArguments(['a', '--', 'x'], [flags.full], { appArguments: false })), 'app arguments unsupported');
  t.equal(messageOf(() => parseRun('a', '--nonsense')), 'unknown flag: --nonsense');
  t.equal(messageOf(() => parseRun('a', '-x')), 'unknown shorthand flag: "x" in -x');
  t.equal(messageOf(() => parseRun('a', '--exec')), 'flag needs an argument: --exec');
});

t.test('switches take a value only behind "="', async (t) => {
  t.equal(readArguments(['--full=false'], [flags.full], { interspersed: true }).values.last(flags.full), false);
  const { values, positional } = readArguments(['--wait', 'abc'], [flags.wait], { interspersed: true });
  t.ok((values.last(flags.wait) ?? 0) < 0, 'without limit');
  t.strictSame(positional, ['abc']);
  t.equal(readArguments(['--wait=1m30s'], [flags.wait], { interspersed: true }).values.last(flags.wait), 90_000);
  t.match(messageOf(() => readArguments(['--full=perhaps'], [flags.full], { interspersed: true })), 'invalid argument "perhaps" for "--full" flag: expected true or false');
});

t.test('arguments of enter are left alone', async (t) => {
  const { values, positional } = readArguments(['--app=web', 'uuid', 'ls', '--color', '--', '-l'], [flags.app], { interspersed: false });
  t.equal(values.last(flags.app), 'web');
  t.strictSame(positional, ['uuid', 'ls', '--color', '--', '-l']);
});

t.test('--help is not an error', async (t) => {
  t.throws(() => parseRun('a', '--help'), { name: 'HelpRequested' });
  t.doesNotThrow(() => parseRun('a', '--', '--help'));
});

t.test('values that are refused', async (t) => {
  const refused: [string, string][] = [
    ['--memory=16m', 'memory limit of 1 bytes too low. Try a reasonable value, such as --memory=16M'],
    ['--memory=lots', 'expected a quantity such as'],
    ['--cpu=0', 'more than 0'],
    ['--cpu-shares=1', 'expected a whole number from 2 to 262144'],
    ['--oom-score-adj=-1001', 'expected a whole number from -1000 to 1000'],
    ['--supplementary-gids=1,x', 'expected a whole number'],
    ['--caps-retain=NET_ADMIN', 'expected capabilities such as CAP_NET_ADMIN, found "NET_ADMIN"'],
    ['--seccomp=chown', 'expected mode=retain or mode=remove'],
    ['--seccomp=mode=retain,errno=eperm,chown', 'errno must be an upper case string'],
    ['--mount=volume=V,target=/x', 'invalid volume name "V"'],
    ['--mount=volume=v,target=/x,size=3', 'unknown mount parameter "size"'],
    ['--volume=v,kind=host,source=rel', 'source for host volume must be absolute path'],
    ['--volume=v,kind=empty,colour=red', 'unknown volume parameter "colour"'],
    ['--volume=v,kind=odd', 'unrecognized volume kind: should be one of "empty", "host"'],
    ['--set-env=NAME', 'environment variable must be specified as name=value'],
    ['--environment=1A=x', 'not a valid name'],
    ['--name=Upper', 'ACName must contain only lower case'],
    ['--net=', 'netname must not be empty'],
    ['--net=host:a=b', 'arguments are not supported by special netname "host"'],
    ['--net=mynet:oops', 'network "mynet" provided with invalid arguments: [oops]'],
    ['--insecure-options=image,image', 'duplicated option "image"'],
    ['--insecure-options=everything', 'unknown option "everything"'],
    ['--accel=hax', 'expected one of: auto, kvm, tcg'],
    ['--dns=one.one', '"one.one" is not an IP address'],
    ['--dns-search=a,,b', 'expected a comma-separated list'],
    ['--hosts-entry=1.2.3.4', 'expected IP=NAME'],
    ['--hosts-entry=1.2.3.4=a b', 'expected IP=NAME'],
    ['--port=8080', 'expected NAME:[HOSTIP:]HOSTPORT'],
    ['--port=http:0', 'expected a whole number from 1 to 65535'],
    ['--port=http:localhost:80', '"localhost" is not an IP address'],
    ['--dir=', '"" is not a valid directory'],
    ['--mem=1', 'from 16 to'],
  ];
  for (const [argument, expected] of refused) t.ok(messageOf(() => parseRun('a', argument)).includes(expected), `${argument}: ${messageOf(() => parseRun('a', argument))}`);
});

t.test('values that are understood', async (t) => {
  const { pod, images } = parseRun(
    '--insecure-options=ALL-RUN', '--volume', 'v,kind=empty,mode=0700,uid=5,readOnly=true', '--net', '--mem=1G', 'a', '--supplementary-gids=7,8',
    '--seccomp', 'mode=remove,errno=EPERM,@rkt/default-blacklist,chown', '--readonly-rootfs', '--environment=A=b=c',
  );
  t.strictSame(pod.last(flags.insecure), { ...SECURE, capabilities: true, paths: true, seccomp: true });
  t.strictSame(pod.last(flags.volume), { name: 'v', kind: 'empty', readOnly: true, mode: '0700', uid: 5, gid: 0 });
  t.strictSame(pod.last(flags.net), [{ name: 'default' }]);
  t.equal(pod.last(flags.mem), 954, 'decimal gigabytes, rounded up to MiB');
  t.strictSame(images[0]?.flags.last(flags.supplementaryGids), [7, 8]);
  t.strictSame(images[0]?.flags.last(flags.seccomp), { name: 'os/linux/seccomp-remove-set', value: { set: ['@rkt/default-blacklist', 'chown'], errno: 'EPERM' } });
  t.equal(images[0]?.flags.last(flags.readonlyRootfs), true);
  t.strictSame(images[0]?.flags.last(flags.environment), { name: 'A', value: 'b=c' });
});

t.test('ports and names', async (t) => {
  const { pod } = parseRun('--port=http:8080', '--port=dns-udp:127.0.0.1:53', '--port', 'www:[::1]:80', '--dns=8.8.8.8,fd00::1', '--dns', 'none', '--dns-opt=ndots:2,rotate', '--hosts-entry=10.0.0.1=db,fd00::2=cache', '--hosts-entry=host', 'a');
  t.strictSame(pod.all(flags.port), [{ name: 'http', hostPort: 8080 }, { name: 'dns-udp', hostPort: 53, hostIP: '127.0.0.1' }, { name: 'www', hostPort: 80, hostIP: '::1' }]);
  t.strictSame(pod.all(flags.dns), [['8.8.8.8', 'fd00::1'], ['none']]);
  t.strictSame(pod.all(flags.dnsOpt), [['ndots:2', 'rotate']]);
  t.strictSame(pod.all(flags.hostsEntry), [[{ address: '10.0.0.1', name: 'db' }, { address: 'fd00::2', name: 'cache' }], [null]]);
});

t.test('networks of several --net', async (t) => {
  t.strictSame(combineNetworks([]), [{ name: 'default' }]);
  t.strictSame(combineNetworks([[{ name: 'a' }], [{ name: 'b', args: 'k=v' }]]), [{ name: 'a' }, { name: 'b', args: 'k=v' }]);
  t.throws(() => combineNetworks([[{ name: 'a' }], [{ name: 'a' }]]), /found duplicate netname "a"/);
});

t.test('every flag is declared once and says what it does', async (t) => {
  const declared = [...RUN_FLAGS, flags.quiet, flags.full];
  t.strictSame(declared.filter(({ help }) => help === ''), []);
  const names = declared.map(({ name }) => name);
  t.equal(new Set(names).size, names.length);
});
