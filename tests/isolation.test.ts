/** What confines the processes of an app, whichever way they come into being, and what of it a pod's manifest and flags can change. */
import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { busyboxMembers, makeAci, makeOciLayout } from './helpers/make-image.ts';
import { eventually, makeHost, readyPod, type Host, type RunResult } from './helpers/rkt.ts';
import { syscallProbe } from './helpers/syscall-probe.ts';

t.jobs = 2;

const probed = [...busyboxMembers(), await syscallProbe('bin/probe')];

/** Output of one app of a pod with several: each line begins with time, app and process. */
function linesOf({ stdout }: RunResult, app: string): string[] {
  return stdout.toString().split('\n').flatMap((line) => new RegExp(`^\\[ *[0-9.]+\\] ${app}\\[\\d+\\]: (.*)$`).exec(line)?.[1] ?? []);
}

function onlyPod(host: Host): string {
  const uuid = host.listing().map((path) => /^pods\/run\/([0-9a-f-]{36})\/$/.exec(path)?.[1]).find((found) => found !== undefined);
  if (uuid === undefined) throw new Error('no pod');
  return uuid;
}

/** All that confines a process, as it sees it itself. The namespace of control groups is each process's own; what it is rooted in is not. */
const OBSERVE = [
  'grep -E "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)" /proc/self/status',
  'cat /proc/self/oom_score_adj /proc/self/limits',
  'echo cgroup; cat /proc/self/cgroup; cat /proc/$(cat /tmp/neighbour)/cgroup',
  'for n in ipc mnt net pid user uts time; do readlink /proc/self/ns/$n; done',
  'umask; pwd; ls -l /proc/self/fd | wc -l; cat /proc/self/mountinfo',
  'echo calls; probe',
  'echo end',
].join('; ');

/** What one way of starting a process shows. */
interface Way {
  name: string;
  observed: string;
}

/** Section of the output of several processes on one stream. */
const section = (output: string, name: string): Way => ({ name, observed: new RegExp(`^begin ${name}\n(.*?)^end$`, 'ms').exec(output)?.[1] ?? '' });

const observe = (name: string): string[] => ['/bin/sh', '-c', `echo begin ${name}; ${OBSERVE}`];

/** What the app of the image sees that joins a running pod. */
async function appStart(host: Host, image: string): Promise<string> {
  const uuidFile = join(host.workDir, 'sandbox');
  const imageID = (await host.rkt(['--insecure-options=image', 'fetch', '--full', image])).stdout.toString().trim();
  const { child, ended } = host.start(['app', 'sandbox', '--net=none', '--mem=512Mi', `--uuid-file-save=${uuidFile}`]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const uuid = await eventually('the sandbox is ready', () => readyPod(host, uuidFile));
  const added = await host.rkt(['app', 'add', uuid, imageID, '--name=app']);
  const started = await host.rkt(['app', 'start', uuid, '--app=app']);
  if (added.status !== 0 || started.status !== 0) throw new Error(added.stderr + started.stderr);
  const lines = (): string => output.replace(/^\[ *[0-9.]+\] app\[\d+\]: /gm, '');
  await eventually('the app has looked around', () => section(lines(), 'main').observed !== '');
  await host.rkt(['stop', '--force', uuid]);
  await ended;
  return section(lines(), 'main').observed;
}

/** Without the numbers of mounts, of their devices and of the app's mount namespace. */
const withoutNumbers = (observed: string): string => observed.replace(/^\d+ \d+ \d+:\d+ /gm, '').replace(/^mnt:.*$/m, '');

for (const user of ['0', '1000']) {
  t.test(`processes of an app are confined equally, however they are started (user ${user})`, async (t) => {
    const host = makeHost('equal');
    t.teardown(host.close);
    const image = makeAci(join(host.workDir, 'app.aci'), {
      layers: [probed],
      manifest: {
        name: 'app',
        app: {
          // What is left behind before the app starts is there to be compared with.
          exec: ['/bin/sh', '-c', `${observe('main')[2]}; while [ ! -e /tmp/go ]; do sleep 0.05; done`],
          eventHandlers: [
            { name: 'pre-start', exec: ['/bin/sh', '-c', `sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/neighbour; ${observe('pre-start')[2]}`] },
            { name: 'post-stop', exec: ['/bin/sh', '-c', `sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/neighbour; ${observe('post-stop')[2]}; kill $!`] },
          ],
          user, group: user, supplementaryGIDs: [7, 9], workingDirectory: '/usr', environment: [{ name: 'PATH', value: '/bin' }],
          isolators: [
            { name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_NET_RAW', 'CAP_CHOWN', 'CAP_KILL', 'CAP_SETUID'] } },
            { name: 'os/linux/seccomp-remove-set', value: { set: ['@rkt/default-blacklist', 'sethostname', 'symlink', 'sched_yield'], errno: 'EXDEV' } },
            { name: 'os/linux/no-new-privileges', value: true },
            { name: 'os/linux/oom-score-adj', value: 77 },
            { name: 'resource/memory', value: { limit: '64Mi' } },
            { name: 'coreos.com/rkt/pids-limit', value: 100 },
            { name: 'coreos.com/rkt/rlimits', value: { nofile: { soft: 100, hard: 200 }, core: { soft: 0, hard: 0 }, stack: { soft: 1 << 20, hard: -1 } } },
          ],
        },
      },
    });
    const { child, ended } = host.start(['--insecure-options=image', 'run', '--net=none', image]);
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await eventually('the app has looked around', () => /^begin main$.*^end$/ms.test(output));
    const uuid = onlyPod(host);
    const enter = async (name: string): Promise<Way> => section((await host.rkt(['enter', uuid, ...observe(name)])).stdout.toString(), name);

    // A way to start a process in an app is one entry here.
    const others: Way[] = [await enter('enter')];

    await host.rkt(['enter', uuid, '/bin/touch', '/tmp/go']);
    t.equal((await ended).status, 0);
    const main = section(output, 'main');
    t.match(main.observed, /^CapBnd:\t00000000000020a1$/m);
    t.match(main.observed, /^NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1$/m);
    t.match(main.observed, /^Groups:\t7 9 *$/m);
    t.match(main.observed, /^Max open files +100 +200 /m);
    t.match(main.observed, /^Max stack size +1048576 +unlimited /m);
    t.match(main.observed, /^cgroup\n0::\/\n0::\/\n/m, 'in the same control group as what was there before');
    t.match(main.observed, / symlink:EXDEV .* sethostname:EXDEV /);
    for (const { name, observed } of others) t.equal(observed, main.observed, name);
    // Added to a pod that runs already, with a machine of its own: only numbers that the kernel gives out may differ.
    if (user === '1000') t.equal(withoutNumbers(await appStart(host, image)), withoutNumbers(main.observed), 'app start');

    // Handlers prepare what the app needs, and clean up: they are root, with what root of this app may.
    const asRoot = (observed: string): string => observed.replace(/^(Uid|Gid|Groups|CapPrm|CapEff):.*\n/gm, '').replace(/^calls\n.*\n/m, '');
    for (const handler of [section(output, 'pre-start'), section(output, 'post-stop')]) {
      t.match(handler.observed, /^Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t? *$/m);
      t.match(handler.observed, /^CapEff:\t00000000000020a1$/m);
      t.match(handler.observed, / symlink:EXDEV .* sethostname:EXDEV /);
      t.equal(asRoot(handler.observed), asRoot(main.observed), handler.name);
    }
    // Of root without groups only these say something else.
    const calls = (observed: string): string => observed.replace(/^Groups:.*\n/m, '');
    if (user === '0') t.equal(calls(section(output, 'pre-start').observed), calls(main.observed), 'pre-start, calls too');
  });
}

t.test('users and groups: names, numbers, paths; what an OCI image says and leaves open', async (t) => {
  const host = makeHost('users');
  t.teardown(host.close);
  const image = (user: string): string => makeOciLayout(join(host.workDir, `${user.replace(/\W/g, '-')}.oci`), { user });
  const show = ['--exec', '/bin/sh', '--', '-c', 'id; echo $HOME $USER $LOGNAME $SHELL'];
  const result = await host.rkt([
    'run', '--net=none',
    image('4242'), '--name=stranger', ...show, '---',
    image('nobody'), '--name=nobody', ...show, '---',
    image('user'), '--name=member', ...show, '---',
    image('user:staff'), '--name=named', ...show, '---',
    image('root'), '--name=owner', '--user=/home/user', '--group=/home/user', '--supplementary-gids=7', ...show,
  ]);
  t.equal(result.status, 0, result.stderr);
  t.strictSame(linesOf(result, 'stranger'), ['uid=4242 gid=0(root)', '/'], 'a number nobody knows: group 0, as elsewhere');
  t.strictSame(linesOf(result, 'nobody'), ['uid=65534(nobody) gid=65534(nogroup)', '/ nobody nobody /bin/false'], "the user's own group");
  t.strictSame(linesOf(result, 'member'), ['uid=1000(user) gid=1000(user) groups=50(staff)', '/home/user user user /bin/sh'], 'and the groups that list the user');
  t.strictSame(linesOf(result, 'named'), ['uid=1000(user) gid=50(staff)', '/home/user user user /bin/sh'], 'but not when a group is named');
  t.strictSame(linesOf(result, 'owner'), ['uid=1000(user) gid=1000(user) groups=7', '/home/user user user /bin/sh'], 'who owns a file');
});

t.test('the environment of an app is what appc says, to the letter', async (t) => {
  const host = makeHost('environment');
  t.teardown(host.close);
  const caller = { HERE: 'caller', THERE: 'caller', ALL: 'caller', PATH: ['/bin', '/usr/bin', '/sbin', ...Array.from({ length: 20 }, (_, index) => `/nowhere/${index}`)].join(':') };
  const envFile = join(host.workDir, 'env');
  writeFileSync(envFile, '# comment\nFILE=file\nBOTH=file\n; comment\nALL=file\n');
  const oci = makeOciLayout(join(host.workDir, 'app.oci'), { user: 'user', env: ['IMAGE=image', 'FILE=image', 'ALL=image', 'HERE=image'] });
  const look = [
    // Values may have lines of their own: the test runner's do.
    "env -0 | tr '\\n\\0' ' \\n' | sort; echo ==", 'pwd', 'ls /dev; echo ==', 'ls -l /dev | sed -n "s/.* \\([a-z]* -> .*\\)/\\1/p"; echo ==',
    'readlink /etc/mtab; grep -c . /etc/mtab; cat /etc/hostname; hostname; cat /etc/hosts; echo ==; cat /etc/resolv.conf',
  ].join('; ');
  const result = await host.rkt([
    'run', '--net=none', '--hostname=pod-a', `--set-env-file=${envFile}`, '--set-env=BOTH=flag', '--set-env=ALL=flag', '--inherit-env',
    '--dns=9.9.9.9', '--dns-search=a.example', '--dns-opt=ndots:2', '--dns-domain=b.example', '--hosts-entry=1.2.3.4=one,5.6.7.8=two',
    oci, '--name=sees', '--environment=ALL=app', '--user-label=l=1', '--user-annotation=a=2', '--exec', '/bin/sh', '--', '-c', look,
  ], { env: { ...Object.fromEntries(Object.keys(process.env).map((name) => [name, undefined])), ...caller } });
  t.equal(result.status, 0, result.stderr);
  const [variables = [], directory = [], links = [], names = [], resolv = []] = sections(result.stdout.toString().trimEnd().split('\n'));
  // The test runner puts some of its own into every process.
  t.strictSame(variables.filter((line) => !line.startsWith('_TAPJS_')), [
    'AC_APP_NAME=sees', 'ALL=app', 'BOTH=flag', 'FILE=file', 'HERE=image', 'HOME=/home/user', 'IMAGE=image', 'LOGNAME=user', `PATH=${caller.PATH}`, 'PWD=/', 'SHELL=/bin/sh',
    'SHLVL=1', 'THERE=caller', 'USER=user',
  ], 'inherited, image, --set-env-file, --set-env, --environment: the later wins; PWD and SHLVL are of the shell');
  t.strictSame(directory, ['/', 'fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero'], 'no console without a terminal');
  t.strictSame(links.sort(), ['fd -> /proc/self/fd', 'ptmx -> pts/ptmx', 'stderr -> /proc/self/fd/2', 'stdin -> /proc/self/fd/0', 'stdout -> /proc/self/fd/1']);
  t.match(names.join('\n'), /^\.\.\/proc\/self\/mounts\n\d+\npod-a\npod-a\n127\.0\.0\.1 localhost pod-a\n::1 .*\n1\.2\.3\.4 one\n5\.6\.7\.8 two$/);
  t.strictSame(resolv, ['domain b.example', 'nameserver 9.9.9.9', 'search a.example', 'options ndots:2']);
  const json = JSON.parse((await host.rkt(['list', '--format=json'])).stdout.toString()) as [{ apps: { name: string; user_labels?: object; user_annotations?: object }[] }];
  t.match(json[0].apps[0], { name: 'sees', user_labels: { l: '1' }, user_annotations: { a: '2' } });
});

/** Cut at lines that say `==`. */
function sections(lines: readonly string[]): string[][] {
  return lines.reduce<string[][]>((parts, line) => (line === '==' ? [...parts, []] : [...parts.slice(0, -1), [...(parts.at(-1) ?? []), line]]), [[]]);
}

t.test('limits of processes, kernel parameters, weights; system call sets; where programs are looked for', async (t) => {
  const host = makeHost('limits');
  t.teardown(host.close);
  const image = makeOciLayout(join(host.workDir, 'probe.oci'), { layers: [probed] });
  const calls = (name: string, seccomp: string): string[] => [image, `--name=${name}`, `--seccomp=${seccomp}`, '--user=1000', '--exec', '/bin/sh', '--', '-c', 'grep -E "^(NoNewPrivs|Seccomp):" /proc/self/status; probe', '---'];
  const result = await host.rkt([
    '--insecure-options=paths,capabilities,seccomp', 'run', '--net=none',
    image, '--name=limits', '--pids-limit=7', '--ulimit=nofile=64:128', '--ulimit=core=unlimited', '--sysctl=net.ipv4.ip_forward=1', '--sysctl=kernel.msgmax=4321',
    '--memory=50Mi', '--cpu=300m', '--cpu-shares=2048', '--oom-score-adj=-7',
    '--exec', '/bin/sh', '--', '-c', 'ulimit -n; ulimit -Hn; ulimit -c; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/self/oom_score_adj; mkdir /c; mount -t cgroup2 c /c; cd /c; cat memory.max cpu.max cpu.weight pids.max', '---',
    image, '--name=other', '--sysctl=net/ipv4/ip_forward=1', '--exec', '/bin/sh', '--', '-c', 'cat /proc/sys/kernel/msgmax',
  ]);
  t.equal(result.status, 0, result.stderr);
  t.strictSame(linesOf(result, 'limits'), ['64', '128', 'unlimited', '1', '4321', '-7', `${50 << 20}`, '30000 100000', '200', '7']);
  t.strictSame(linesOf(result, 'other'), ['4321'], 'the kernel is that of the whole pod');

  const aci = makeAci(join(host.workDir, 'app.aci'), {
    layers: [[...busyboxMembers(), { path: 'srv/tool', mode: 0o755, content: '#!/bin/sh\necho from the working directory\n' }]],
    manifest: { name: 'app', app: { exec: ['tool'], user: '0', group: '0', workingDirectory: '/srv' } },
  });
  const filtered = await host.rkt([
    '--insecure-options=image', 'run', '--net=none', aci, '--name=finds',
    ...calls('all', 'mode=retain,@appc.io/all'), ...calls('list', 'mode=remove,errno=EXDEV,@docker/default-blacklist,@systemd/clock,mkdir'),
    ...calls('kept', 'mode=retain,errno=ENOTTY,@docker/default-whitelist,@systemd/mount'),
    image, '--name=few', '--pids-limit=7', '--exec', '/bin/sh', '--', '-c', '(i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done) 2>&1; echo alive',
  ]);
  t.equal(filtered.status, 0, filtered.stderr);
  const [all = [], list = [], kept = []] = ['all', 'list', 'kept'].map((name) => linesOf(filtered, name));
  const outcome = (lines: string[], call: string): string | undefined => new RegExp(`(?:^| )${call}:(\\S+)`).exec(lines.at(-1) ?? '')?.[1];
  t.strictSame(all.slice(0, 2), ['NoNewPrivs:\t0', 'Seccomp:\t0'], 'everything retained is no filter');
  t.strictSame(list.slice(0, 2), ['NoNewPrivs:\t1', 'Seccomp:\t2'], 'a filter of a user other than root needs no-new-privileges');
  t.strictSame(['mkdir', 'mount', 'settimeofday', 'read'].map((call) => outcome(list, call)), ['EXDEV', 'EXDEV', 'EXDEV', 'EBADF']);
  t.strictSame(['reboot', 'read', 'umount2', 'keyctl'].map((call) => outcome(kept, call)), ['ENOTTY', 'EBADF', 'EINVAL', 'ENOTTY']);
  t.strictSame(linesOf(filtered, 'finds'), ['from the working directory'], 'without a PATH programs are looked for in the working directory, /bin, /usr/bin');
  t.match(linesOf(filtered, 'few').join('\n'), /can't fork.*\nalive$/);
});

// The pod's kernel lets processes share a filter of equal instructions (kernel-config/patches/0007).
t.test('each app keeps its own system call filter, whoever else is started in between', async (t) => {
  const host = makeHost('filters');
  t.teardown(host.close);
  const uuidFile = join(host.workDir, 'uuid');
  const image = busyboxImage();
  const app = (name: string, seccomp: string): string[] => [image, `--name=${name}`, `--seccomp=${seccomp}`, '--exec', '/bin/sleep', '--', '1000', '---'];
  const { ended } = host.start([
    'run', '--net=none', `--uuid-file-save=${uuidFile}`,
    ...app('links', 'mode=remove,errno=EXDEV,symlink,symlinkat'), ...app('pipes', 'mode=remove,errno=ENOTTY,mknod,mknodat'), ...app('free', 'mode=retain,@appc.io/all'),
  ]);
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  const script = 'grep -E "^Seccomp_filters" /proc/self/status; rm -f /tmp/l /tmp/p; ln -s l /tmp/l 2>&1; mkfifo /tmp/p 2>&1; echo end';
  const expected: Record<string, string> = {
    links: 'Seccomp_filters:\t1\nln: /tmp/l: Invalid cross-device link\nend\n',
    pipes: 'Seccomp_filters:\t1\nmkfifo: /tmp/p: Inappropriate ioctl for device\nend\n',
    free: 'Seccomp_filters:\t0\nend\n',
  };
  for (const name of ['links', 'links', 'pipes', 'links', 'free', 'links', 'pipes', 'pipes', 'free']) {
    const { stdout } = await host.rkt(['enter', `--app=${name}`, uuid, '/bin/sh', '-c', script]);
    t.equal(stdout.toString(), expected[name], name);
  }
  await host.rkt(['stop', '--force', uuid]);
  await ended;
});

t.test('event handlers run whatever becomes of the app; what cannot be started says why', async (t) => {
  const host = makeHost('handlers');
  t.teardown(host.close);
  const app = (name: string, fields: { exec?: string[]; before?: string; after?: string; user?: string }): string => makeAci(join(host.workDir, `${name}.aci`), {
    manifest: {
      name,
      app: {
        exec: fields.exec ?? ['/bin/true'], user: fields.user ?? '0', group: '0',
        eventHandlers: [
          { name: 'pre-start', exec: ['/bin/sh', '-c', fields.before ?? 'true'] },
          { name: 'post-stop', exec: ['/bin/sh', '-c', fields.after ?? 'echo post-stop'] },
        ],
      },
    },
  });
  const run = (image: string): Promise<RunResult> => host.rkt(['--insecure-options=image', 'run', '--net=none', image]);
  const status = async (): Promise<string> => {
    const text = (await host.rkt(['status', onlyPod(host)])).stdout.toString();
    await host.rkt(['rm', onlyPod(host)]);
    return text;
  };
  const missing = await run(app('missing', { exec: ['/no/such'] }));
  t.equal(missing.status, 254);
  t.match(missing.stderr, /app "missing": exec: Unable to open "\/no\/such": No such file or directory/);
  t.equal(missing.stdout.toString(), 'post-stop\n', 'cleaned up all the same');
  t.match(await status(), /^app-missing=203$/m);

  const refused = await run(app('refused', { before: 'echo pre-start; exit 9', exec: ['/bin/echo', 'never'] }));
  t.equal(refused.status, 254);
  t.match(refused.stderr, /pre-start handler: exit status 9/);
  t.equal(refused.stdout.toString(), 'pre-start\npost-stop\n');
  t.match(await status(), /^app-refused=9$/m);

  const untidy = await run(app('untidy', { exec: ['/bin/sh', '-c', 'exit 4'], after: 'exit 5' }));
  t.equal(untidy.status, 4, "the app's own status counts");
  t.match(untidy.stderr, /warning: untidy: post-stop handler: exit status 5/);
  await status();

  const nobody = await run(app('nobody', { user: 'nobody-here' }));
  t.equal(nobody.status, 254);
  t.match(nobody.stderr, /unknown user "nobody-here"/);
  t.match(await status(), /^app-nobody=217$/m);
});

t.test('what the kernel kills for want of memory is said, and which memory it was', async (t) => {
  const host = makeHost('memory');
  t.teardown(host.close);
  const image = busyboxImage();
  const limited = await host.rkt(['run', '--net=none', image, '--name=greedy', '--memory=24Mi', '--exec', '/bin/sh', '--', '-c', 'tail /dev/zero; echo child $?; exec tail /dev/zero']);
  t.equal(limited.status, 137);
  t.equal(limited.stdout.toString(), 'child 137\n');
  t.match(limited.stderr, /app "greedy": out of memory: it may use 24 MiB \(resource\/memory\); processes killed so far: 1\n/, 'a child');
  t.match(limited.stderr, /processes killed so far: 2\n.*app "greedy" was killed for want of memory/s, 'then the app itself');
  const uuid = onlyPod(host);
  t.match((await host.rkt(['status', uuid])).stdout.toString(), /\napp-greedy=137\nmemory-kills-greedy=2\n$/);
  t.match(JSON.parse((await host.rkt(['status', '--format=json', uuid])).stdout.toString()), { apps: [{ name: 'greedy', exit_code: 137, memory_kills: 2 }] });
  await host.rkt(['rm', uuid]);

  const whole = await host.rkt(['run', '--net=none', '--mem=96M', image, '--name=child', '--exec', '/bin/sh', '--', '-c', 'tail /dev/zero; echo survived']);
  t.equal(whole.status, 0, whole.stderr);
  t.equal(whole.stdout.toString(), 'survived\n');
  t.match(whole.stderr, /app "child": out of memory: the 92 MiB of the pod are used up \(--mem\); processes killed so far: 1/);
});

t.test('a pod is as large as its isolators say', async (t) => {
  const host = makeHost('size');
  t.teardown(host.close);
  const image = busyboxImage();
  const fetched = JSON.parse((await host.rkt(['fetch', '--format=json', image])).stdout.toString().trim().split('\n').at(-1) ?? '{}') as { id?: string };
  const manifestFile = join(host.workDir, 'pod.json');
  const manifest = (isolators: object[]): void => writeFileSync(manifestFile, JSON.stringify({
    acVersion: '0.8.11', acKind: 'PodManifest', isolators,
    apps: [{ name: 'a', image: { id: fetched.id }, app: { exec: ['/bin/sh', '-c', 'nproc; grep MemTotal /proc/meminfo'], user: '0', group: '0' } }],
  }));
  manifest([{ name: 'resource/memory', value: { limit: '100Mi' } }, { name: 'resource/cpu', value: { limit: '500m' } }]);
  const result = await host.rkt(['run', '--net=none', `--pod-manifest=${manifestFile}`]);
  t.equal(result.status, 0, result.stderr);
  const vm = JSON.parse(readFileSync(join(host.dataDir, 'pods/run', onlyPod(host), 'vm.json'), 'utf8')) as { memoryMiB: number; cpus: number };
  t.match(vm, { memoryMiB: 228, cpus: 1 });
  t.match(result.stdout.toString(), /^1\nMemTotal: +(1[5-9]|2[0-2])\d{4} kB/);
  manifest([{ name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_KILL'] } }]);
  const refused = await host.rkt(['run', '--net=none', `--pod-manifest=${manifestFile}`]);
  t.equal(refused.status, 254);
  t.match(refused.stderr, /isolators\[0\]: "os\/linux\/capabilities-retain-set" cannot be said of a pod as a whole/);
});

t.test('what cannot be is refused before anything is made', async (t) => {
  const host = makeHost('refused');
  t.teardown(host.close);
  const image = busyboxImage();
  await host.rkt(['fetch', image]);
  const pods = (): string[] => host.listing().filter((path) => /^pods\/[^/]+\/./.test(path));
  const refused = async (args: string[], message: RegExp): Promise<void> => {
    const result = await host.rkt(args);
    t.equal(result.status, 254, args.join(' '));
    t.match(result.stderr, message);
  };
  await refused(['run', '--net=none', '--private-users', image], /flag --private-users cannot be used with a kvm stage1/);
  await refused(['run', '--net=none', '--ipc=parent', image], /flavor kvm requires private IPC namespace/);
  await refused(['run', '--net=none', image, '--name=a', '--sysctl=kernel.msgmax=1', '---', image, '--name=b', '--sysctl=kernel/msgmax=2'], /app "b": os\/unix\/sysctl: kernel\/msgmax is to be "2", but "1" for app "a"/);
  await refused(['run', '--net=none', image, '--sysctl=kernel/../x=1'], /--sysctl.*expected a key such as net\.ipv4\.ip_forward/);
  await refused(['run', '--net=none', image, '--ulimit=nofile=2:1'], /--ulimit.*soft limit 2 is beyond the hard limit 1/);
  await refused(['run', '--net=none', image, '--ulimit=files=1'], /--ulimit.*unknown limit "files"/);
  await refused(['run', '--net=none', image, '--pids-limit=0'], /--pids-limit.*from 1 to/);
  await refused(['run', '--net=none', image, '--seccomp=mode=keep,read'], /mode=retain or mode=remove/);
  await refused(['run', '--net=none', image, '--caps-retain=CAP_CHOWN', '--caps-remove=CAP_KILL'], /only one of --caps-retain or --caps-remove/);
  t.strictSame(pods(), []);
  const unknown = await host.rkt(['run', '--net=none', image, '--sysctl=kernel.no_such=1', '--exec', '/bin/true']);
  t.equal(unknown.status, 254);
  t.match(unknown.stderr, /os\/unix\/sysctl\.kernel\.no_such: the kernel of the pod has no such parameter/);
});

t.test('memory that a pod has freed goes back to the host, if that is asked for', async (t) => {
  const host = makeHost('give-back');
  t.teardown(host.close);
  const script = 'dd if=/dev/zero of=/dev/shm/big bs=1M count=100 2>/dev/null; echo full; read line; rm /dev/shm/big; echo freed; read line';
  const { child, ended } = host.start(['run', '--net=none', '--interactive', '--mem=256M', '--give-back-memory', busyboxImage(), '--exec', '/bin/sh', '--', '-c', script], { pipe: true });
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually('the memory is in use', () => output.includes('full'));
  const memory = memoryFile(host);
  const mib = (): number => (statSync(memory).blocks * 512) / 2 ** 20;
  const used = mib();
  t.ok(used > 100, `${used} MiB`);
  child.stdin?.write('\n');
  await eventually('it is given back', () => output.includes('freed') && mib() < used - 80);
  child.stdin?.end('\n');
  t.equal((await ended).status, 0);
});

/** The file that is the guest's memory: without a name, one of QEMU's descriptors. */
function memoryFile(host: Host): string {
  const { qemuPid, memoryMiB } = JSON.parse(readFileSync(join(host.dataDir, 'pods/run', onlyPod(host), 'vm.json'), 'utf8')) as { qemuPid: number; memoryMiB: number };
  const fds = `/proc/${qemuPid}/fd`;
  const path = readdirSync(fds).map((fd) => join(fds, fd)).find((fd) => readlinkSync(fd).endsWith(' (deleted)') && statSync(fd).size === memoryMiB * 2 ** 20);
  if (path === undefined) throw new Error('QEMU has no memory file');
  return path;
}
