/**
 * What is measured of pods: computed before, read from the TPM of the running pod, judged by tpm2-tools and by `rkt attest
 * verify`, for every kind of pod there is. A feature that changes what a pod is made of adds a line to PODS.
 */
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ensureDebianKernel } from '../kernel-config/debian-kernel.ts';
import { kvmFlavor, stage1Archive } from '../scripts/package-stage1.ts';
import { PCR, POD_BANKS, QUOTED_PCRS } from '../src/tpm/index.ts';
import { attestationOf, checkquote, eventlogPcrs, type Registers } from './helpers/attestation.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { busyboxMembers, makeAci, makeOciLayout } from './helpers/make-image.ts';
import { becomeNetworkHost, reasonForNoNetwork, run } from './helpers/network-host.ts';
import { makeHost, processesMentioning, type RunResult } from './helpers/rkt.ts';

/** Each test has at most one virtual machine. */
t.jobs = 2;

const noNetwork = reasonForNoNetwork();
// Fetched, where it has to be, while there is a way out of this host.
const debianKernel = noNetwork === undefined ? await ensureDebianKernel() : undefined;
if (noNetwork === undefined) becomeNetworkHost();

const host = makeHost('attest');
t.teardown(host.close);
const attestation = attestationOf(host);
const { file, podFile, succeed, predict, quote, failures } = attestation;

const SECRET = 'hunter2';
const OCI = busyboxImage();
const ACI = makeAci(file('sleeper.aci'), { exec: ['/bin/sleep', '600'], user: '1000:1000', workingDirectory: '/tmp', env: ['LANG=C'] });
const SLEEP = ['--exec=/bin/sleep', '--', '600'];

interface PodCase {
  name: string;
  /** Of `run` and of `predict`. Without `--net` there is no network. */
  args: readonly string[];
  skip?: string | false;
  /** While the pod runs. */
  check?(t: Test, pod: RunningPod): Promise<void>;
}

interface RunningPod {
  uuid: string;
  ended: Promise<RunResult>;
  /** What the pod was predicted to be, as a file. */
  reference: string;
}

await succeed(['attest', 'init']);

const PODS: readonly PodCase[] = [
  { name: 'an app of an OCI image', args: [OCI, ...SLEEP], check: changesAreNamed },
  { name: 'an ACI that says itself what to run', args: [ACI] },
  { name: 'two apps, of an OCI image and of an ACI', args: [OCI, '--name=one', ...SLEEP, '---', ACI, '--name=two'], check: mutationsAreNamed },
  { name: 'a sealed pod', args: ['--sealed', OCI, ...SLEEP], check: sealedRefuses },
  { name: 'user, groups, directory, capabilities, system calls', args: [OCI, '--user=1000', '--group=1000', '--supplementary-gids=50,51', '--working-dir=/home/user', '--caps-retain=CAP_NET_BIND_SERVICE', '--seccomp=mode=remove,reboot', ...SLEEP] },
  { name: 'arguments and environment of all kinds', args: [`--set-env=PASSWORD=${SECRET}`, OCI, '--environment=TEXT=a "b"\\\n\u00fc\u{1f600}', '--exec=/bin/sh', '--', '-c', 'sleep 600', '', '"\\', '\u202e\ud55c'], check: secretsAreNotShown },
  { name: 'memory of the machine', args: ['--mem=300M', OCI, ...SLEEP] },
  { name: 'limits of an app', args: [OCI, '--memory=200M', '--cpu=1500m', '--cpu-shares=100', '--oom-score-adj=10', ...SLEEP] },
  { name: 'two processors', args: ['--cpus=2', OCI, ...SLEEP] },
  { name: 'insecure options', args: ['--insecure-options=image,paths,seccomp', OCI, ...SLEEP] },
  { name: "a distribution's kernel", args: [`--kernel=${installDebianKernel()}`, OCI, ...SLEEP], skip: noNetwork ?? false },
  { name: 'the user-mode network', args: ['--net=user', '--hostname=guest', OCI, ...SLEEP] },
  { name: 'a network of plugins', args: ['--net=default', OCI, ...SLEEP], skip: noNetwork ?? false },
  { name: 'volume, mount, annotations, read-only root', args: ['--volume=data,kind=empty,mode=0700,uid=7', OCI, '--mount=volume=data,target=/data', '--annotation=example.com/a=b', '--user-annotation=c=d', '--user-label=e=f', '--readonly-rootfs', ...SLEEP] },
  { name: 'volumes of the host', args: [`--volume=share,kind=host,source=${host.workDir}`, `--volume=file,kind=host,source=${ACI},readOnly=true`, OCI, '--mount=volume=share,target=/share', '--mount=volume=file,target=/aci', ...SLEEP] },
  { name: 'an image as a directory of the host', args: ['--rootfs=virtiofs', OCI, ...SLEEP] },
  { name: 'a pod manifest from a file', args: [`--pod-manifest=${await podManifestFile()}`] },
];

/** With its modules where `rkt` looks for them, and nobody else: this process is on a host of its own. */
function installDebianKernel(): string {
  if (debianKernel === undefined) return 'none';
  const { path, release, moduleDir = '' } = debianKernel;
  run('mkdir -p /lib/modules && mount -t tmpfs tmpfs /lib/modules');
  symlinkSync(moduleDir, join('/lib/modules', release));
  return path;
}

async function podManifestFile(): Promise<string> {
  const [id = ''] = /sha512-[0-9a-f]{64}/.exec((await succeed(['fetch', '--full', OCI])).toString()) ?? [];
  const app = { name: 'from-file', image: { id }, app: { exec: ['/bin/sleep', '600'], user: '0', group: '0', environment: [{ name: 'A', value: SECRET }] } };
  writeFileSync(file('pod.json'), JSON.stringify({ acVersion: '0.8.11', acKind: 'PodManifest', apps: [app], annotations: [{ name: 'example.com/x', value: 'y' }] }));
  return file('pod.json');
}

function withNetwork(args: readonly string[]): string[] {
  return args.some((argument) => argument.startsWith('--net=')) ? [...args] : ['--net=none', ...args];
}

/** All but the register with the UUID, which nobody knows before. */
const PREDICTED_PCRS = QUOTED_PCRS.filter((pcr) => pcr !== PCR.rkt);

function pick(registers: Registers, pcrs: readonly number[]): Record<string, (string | undefined)[]> {
  return Object.fromEntries(POD_BANKS.map((bank) => [bank, pcrs.map((pcr) => registers[bank]?.[String(pcr)])]));
}

for (const { name, args, skip = false, check } of PODS) {
  t.test(`predicted before, measured then: ${name}`, { skip }, async (t) => {
    const reference = await predict(name, withNetwork(args));
    const { uuid, ended } = await attestation.start(withNetwork(args));
    const { source, pcrs } = await attestation.pcrs(uuid);
    t.equal(source, 'tpm');
    t.strictSame(pick((JSON.parse(readFileSync(reference, 'utf8')) as { pcrs: Registers }).pcrs, PREDICTED_PCRS), pick(pcrs, PREDICTED_PCRS), 'predicted');

    writeFileSync(file(`${uuid}.log`), await succeed(['attest', 'log', '--format=binary', uuid]));
    t.strictSame(pick(eventlogPcrs(file(`${uuid}.log`)), QUOTED_PCRS), pick(pcrs, QUOTED_PCRS), 'tpm2_eventlog');
    const quoted = await quote(uuid, 'c0ffee');
    t.equal(checkquote(quoted, uuid, 'c0ffee'), '', 'tpm2_checkquote');
    t.strictSame(await failures(quoted, [`--reference=${reference}`, '--data=c0ffee']), [], 'verify');
    await check?.(t, { uuid, ended, reference });
    await host.rkt(['stop', '--force', uuid]);
    await ended;
  });
}

/** One byte of whatever makes the pod: the verifier names the event, and says what was expected. */
async function changesAreNamed(t: Test, { uuid, reference }: RunningPod): Promise<void> {
  const quoted = await quote(uuid);
  const events = await attestation.events(uuid);
  const pod = withNetwork([OCI, ...SLEEP]);
  const changedLayer = busyboxMembers().map((member) => (member.path === 'etc/group' ? { ...member, content: String(member.content).replace('staff', 'stafg') } : member));
  const changedImage = makeOciLayout(file('changed/busybox.oci'), { layers: [changedLayer] });
  const cases: { what: string; reference: string; kinds: readonly string[]; text: RegExp }[] = [
    { what: 'kernel', reference: await predict('kernel', [`--stage1-path=${await changedStage1('kernel')}`, ...pod]), kinds: ['kernel'], text: /^kernel: sha256 is/ },
    { what: 'initramfs', reference: await predict('initramfs', [`--stage1-path=${await changedStage1('initramfs')}`, ...pod]), kinds: ['initramfs'], text: /^initramfs: sha256 is/ },
    { what: 'command line', reference: edited(reference, 'quiet panic=-1', 'quiet panic=-2'), kinds: ['command-line'], text: /^command-line: text is "quiet panic=-1.*expected "quiet panic=-2/ },
    { what: 'image', reference: await predict('image', withNetwork([changedImage, ...SLEEP])), kinds: ['pod-manifest', 'app'], text: /^app: rootHash is/ },
    { what: 'pod manifest', reference: await predict('manifest', withNetwork([OCI, '--user-annotation=a=b', ...SLEEP])), kinds: ['pod-manifest'], text: /^pod-manifest: manifest\.apps\[0\]\.app\.userAnnotations/ },
    { what: 'argument', reference: await predict('argument', withNetwork([OCI, '--exec=/bin/sleep', '--', '601'])), kinds: ['pod-manifest'], text: /^pod-manifest: manifest\.apps\[0\]\.app\.exec\[1\] is "600", expected "601"/ },
    { what: 'sealing', reference: await predict('sealing', ['--sealed', ...pod]), kinds: ['policy', 'agent-policy'], text: /^policy: sealed is false, expected true/ },
    { what: 'insecure options', reference: await predict('insecure', ['--insecure-options=seccomp', ...pod]), kinds: ['policy', 'agent-policy'], text: /^policy: insecureOptions\[0\] is absent, expected "seccomp"/ },
    { what: 'machine', reference: await predict('machine', ['--mem=513', ...pod]), kinds: ['vmm-configuration'], text: /memoryMiB is 512, expected 513/ },
  ];
  for (const { what, reference, kinds, text } of cases) {
    const found = await failures(quoted, [`--reference=${reference}`]);
    t.strictSame([...new Set(found.map(({ check }) => check))], ['reference'], `${what}: nothing else is wrong`);
    t.ok(found.some((finding) => text.test(finding.text)), `${what}: ${found.map((finding) => finding.text).join('; ')}`);
    const named = found.map(({ event }) => events.find(({ number }) => number === event)?.measurement?.kind);
    t.strictSame([...new Set(named)], kinds, `${what}: in its events`);
  }
}

/** The stage1 image with one byte of a file changed, in the middle. */
async function changedStage1(changed: 'kernel' | 'initramfs'): Promise<string> {
  const read = (name: string): Buffer => readFileSync(join(import.meta.dirname, '../dist/stage1-kvm', name));
  const parts = { init: read('init'), kernel: read('kernel'), initramfs: read('initramfs') };
  parts[changed][parts[changed].length >> 1]! ^= 1;
  const path = file(`changed-${changed}.aci`);
  writeFileSync(path, await stage1Archive(kvmFlavor({ release: 'any', source: 'own' }), '2.0.0', new Map(Object.entries(parts))));
  return path;
}

/** Without registers, which would not be those of the edited measurements. */
function edited(reference: string, from: string, to: string): string {
  const { pcrs: _pcrs, ...document } = JSON.parse(readFileSync(reference, 'utf8').replace(from, to)) as Record<string, unknown>;
  writeFileSync(file('edited.json'), JSON.stringify(document));
  return file('edited.json');
}

/** What the host does to a pod is in its log, for good; and the pod does not survive its TPM. */
async function mutationsAreNamed(t: Test, { uuid, ended, reference }: RunningPod): Promise<void> {
  const before = await attestation.pcrs(uuid);
  t.equal((await succeed(['enter', '--app=two', uuid, '/bin/echo', 'I was here'])).toString(), 'I was here\n');
  const last = (await attestation.events(uuid)).at(-1)!;
  t.strictSame(last.measurement, { kind: 'enter', app: 'two', command: ['/bin/echo', 'I was here'] });
  const quoted = await quote(uuid);
  const [finding, ...more] = await failures(quoted, [`--reference=${reference}`]);
  t.strictSame(more, []);
  t.match(finding, { check: 'policy', event: last.number, text: /the host ran "\/bin\/echo" "I was here" in app "two"/ });
  writeFileSync(file('policy.json'), JSON.stringify({ format: 'rkt-policy', formatVersion: 1, mutations: ['enter'] }));
  t.strictSame(await failures(quoted, [`--reference=${reference}`, `--policy=${file('policy.json')}`]), []);
  t.strictSame((await failures({ ...quoted, nonceHex: 'ab'.repeat(32) }, [`--reference=${reference}`, `--policy=${file('policy.json')}`])).map(({ check }) => check), ['freshness'], 'evidence for somebody else');

  const { pcrs } = await attestation.pcrs(uuid);
  t.not(pcrs['sha256']?.[PCR.pod], before.pcrs['sha256']?.[PCR.pod]);
  const [swtpm] = processesMentioning(podFile(uuid, 'tpm/state'));
  process.kill(swtpm!.pid, 'SIGKILL');
  const { status, stderr } = await ended;
  t.equal(status, 254);
  t.match(stderr, /the TPM \(swtpm\) of the pod has ended/);
  const { source, pcrs: kept } = await attestation.pcrs(uuid);
  t.equal(source, 'log');
  t.strictSame(pick(kept, QUOTED_PCRS), pick(pcrs, QUOTED_PCRS), 'the log gives what the TPM had');
  t.strictSame(await succeed(['attest', 'evidence', uuid]), readFileSync(quoted.evidence), 'evidence stays readable');
  const refused = await host.rkt(['attest', 'quote', `--nonce=${quoted.nonceHex}`, uuid]);
  t.equal(refused.status, 254);
  t.match(refused.stderr, /is not running \(exited\): its TPM is gone\n {2}hint: .*rkt attest evidence/);
}

async function sealedRefuses(t: Test, { uuid, reference }: RunningPod): Promise<void> {
  const { stdout, stderr, status } = await host.rkt(['enter', uuid, '/bin/echo', 'I was here']);
  t.equal(status, 254);
  t.equal(stdout.toString(), '');
  t.match(stderr, /the pod is sealed: nothing can be run in it from outside/);
  t.strictSame(await failures(await quote(uuid), [`--reference=${reference}`]), [], 'nothing has happened to it');
}

async function secretsAreNotShown(t: Test, { uuid }: RunningPod): Promise<void> {
  const { evidence } = await quote(uuid);
  const { eventLog } = JSON.parse(readFileSync(evidence, 'utf8')) as { eventLog: string };
  for (const log of [await succeed(['attest', 'log', '--format=binary', uuid]), Buffer.from(eventLog, 'hex')]) {
    t.ok(log.includes('PASSWORD'));
    t.notOk(log.includes(SECRET));
  }
  t.notMatch((await succeed(['attest', 'log', uuid])).toString(), /\u202e/);
}

t.test('a guest that resets its machine does not start again with the same registers', async (t) => {
  const args = ['--net=none', '--insecure-options=all-run', OCI, '--caps-retain=CAP_SYS_BOOT', '--exec=/bin/busybox', '--', 'reboot', '-f'];
  const uuidFile = file('reset-uuid');
  const { status, stderr } = await host.rkt(['run', `--uuid-file-save=${uuidFile}`, ...args]);
  t.equal(status, 254);
  t.match(stderr, /the guest stopped while the pod was running/);
  const phases = (await attestation.events(readFileSync(uuidFile, 'utf8'))).flatMap(({ measurement }) => (measurement?.kind === 'phase' ? [measurement.phase] : []));
  t.equal(phases.filter((phase) => phase === 'enter').length, 1);
  t.notOk(phases.includes('exit'));
});
