/** Every flag of every command, declared once. */
import type { AnyFlag, FlagScope, FlagSpec } from './flag.ts';
import { appVolume, sandboxPort as sandboxPortMapping } from './mutable.ts';
import { INSECURE_NAMES, insecureOptions } from './insecure.ts';
import { dnsServers, exposedPort, hostsEntries, networks } from './network.ts';
import { NOTIFY_ANNOTATION, parseRestartPolicy, parseSignal, RESTART_ANNOTATION, STOP_SIGNAL_ANNOTATION } from '../../wire/app-settings.ts';
import * as values from './values.ts';

function flag<T>(spec: FlagSpec<T>): FlagSpec<T> {
  return spec;
}

function toggle(name: string, scope: FlagScope, help: string): FlagSpec<boolean> {
  return { name, scope, help, bareValue: 'true', parse: values.boolean };
}

// Global
export const debug = toggle('debug', 'global', 'print out more debug information to stderr');
export const dir = flag({ name: 'dir', scope: 'global', placeholder: 'DIR', help: 'rkt data directory', defaultText: '/var/lib/rkt', parse: values.directory });
export const systemConfig = flag({ name: 'system-config', scope: 'global', placeholder: 'DIR', help: 'system configuration directory', defaultText: '/usr/lib/rkt', parse: values.directory });
export const localConfig = flag({ name: 'local-config', scope: 'global', placeholder: 'DIR', help: 'local configuration directory', defaultText: '/etc/rkt', parse: values.directory });
export const userConfig = flag({ name: 'user-config', scope: 'global', placeholder: 'DIR', help: 'user configuration directory', parse: values.directory });
export const insecure = flag({
  name: 'insecure-options',
  scope: 'global',
  placeholder: 'LIST',
  help: `comma-separated list of security features to disable: ${INSECURE_NAMES.join(', ')}`,
  defaultText: 'none',
  parse: insecureOptions,
});
export const trustKeysFromHttps = toggle('trust-keys-from-https', 'global', 'automatically trust gpg keys fetched from https');

export const GLOBAL_FLAGS: readonly AnyFlag[] = [debug, dir, systemConfig, localConfig, userConfig, insecure, trustKeysFromHttps];

// Selection of stage1
const stage1 = (name: string, placeholder: string, help: string): FlagSpec<string> => ({ name, scope: 'pod', placeholder, help, parse: values.nonEmpty });
export const stage1Url = stage1('stage1-url', 'URL', 'URL of the stage1 image');
export const stage1Path = stage1('stage1-path', 'FILE', 'path of the stage1 image');
export const stage1Name = stage1('stage1-name', 'NAME', 'name of the stage1 image, such as kvm or fly');
export const stage1Hash = stage1('stage1-hash', 'ID', 'hash of the stage1 image in the store');
export const stage1FromDir = stage1('stage1-from-dir', 'FILE', 'file name of the stage1 image in the stage1 images directory');
export const STAGE1_FLAGS = [stage1Url, stage1Path, stage1Name, stage1Hash, stage1FromDir] as const;

// What a pod is made of: prepare and run
export const inheritEnv = toggle('inherit-env', 'pod', 'inherit all environment variables not set by apps');
export const setEnv = flag({ name: 'set-env', scope: 'pod', placeholder: 'NAME=VALUE', help: 'an environment variable to set for all apps', parse: values.environmentVariable });
export const setEnvFile = flag({ name: 'set-env-file', scope: 'pod', placeholder: 'FILE', help: 'a file with environment variables to set for all apps', parse: values.nonEmpty });
export const pullPolicy = flag({ name: 'pull-policy', scope: 'pod', placeholder: 'never|new|update', help: 'when to pull an image', defaultText: 'new', parse: values.oneOf('never', 'new', 'update') });
export const pullPolicyOfFetch = { ...pullPolicy, defaultText: 'update' };
export const storeOnly = { ...toggle('store-only', 'pod', 'use only images in the store (the same as --pull-policy=never)'), hidden: true };
export const noStore = { ...toggle('no-store', 'pod', 'fetch images ignoring the store (the same as --pull-policy=update)'), hidden: true };
export const platform = flag({ name: 'platform', scope: 'pod', placeholder: 'OS/ARCH[/VARIANT]', help: 'which image to take where there are several, such as linux/amd64', parse: values.platform });
export const keepLayers = toggle('keep-layers', 'pod', 'keep the layers of images in the store as they came');
export const podManifest = flag({ name: 'pod-manifest', scope: 'pod', placeholder: 'FILE', help: 'take the whole pod from this manifest; excludes images and what changes them', parse: values.nonEmpty });
export const volume = flag({ name: 'volume', scope: 'pod', placeholder: 'NAME,kind=KIND[,…]', help: 'volumes to make available in the pod', parse: values.volume });
export const rootfs = flag({ name: 'rootfs', scope: 'pod', placeholder: 'disk|virtiofs', help: 'where apps have the content of their images from: a verified disk, or a directory of this host', defaultText: 'disk', parse: values.oneOf('disk', 'virtiofs') });
export const noOverlay = toggle('no-overlay', 'pod', 'copy the files of images for the pod where they would be overlaid; virtual machines overlay inside');
export const privateUsers = { ...toggle('private-users', 'pod', 'not possible: the users of a pod are those of its own kernel'), hidden: true };
export const port = flag({ name: 'port', scope: 'pod', placeholder: 'NAME:[HOSTIP:]HOSTPORT', help: 'make a port of an app reachable on this host', parse: exposedPort });

// How a pod runs: run and run-prepared
export const net = flag({ name: 'net', scope: 'pod', placeholder: 'NAMES', help: 'networks of the pod: names of configured networks, all, default, default-restricted, user, none; host where stage1 can', defaultText: 'default', bareValue: 'default', parse: networks });
export const interactive = toggle('interactive', 'pod', 'run the pod interactively, with a terminal; only one app');
export const hostname = flag({ name: 'hostname', scope: 'pod', placeholder: 'NAME', help: 'host name of the pod', defaultText: 'rkt-$UUID', parse: values.text });
export const uuidFileSave = flag({ name: 'uuid-file-save', scope: 'pod', placeholder: 'FILE', help: 'write the UUID of the pod to this file', parse: values.nonEmpty });
export const ipc = flag({ name: 'ipc', scope: 'pod', placeholder: 'MODE', help: 'IPC namespace: auto, private, parent', hidden: true, parse: values.oneOf('auto', 'private', 'parent') });
export const accelerator = flag({ name: 'accel', scope: 'pod', placeholder: 'auto|kvm|tcg', help: 'how the virtual machine is run; auto measures', defaultText: 'auto', parse: values.oneOf('auto', 'kvm', 'tcg') });
export const kernel = flag({ name: 'kernel', scope: 'pod', placeholder: 'FILE', help: 'boot this kernel instead of the one in the stage1 image', parse: values.nonEmpty });
export const cpus = flag({ name: 'cpus', scope: 'pod', placeholder: 'N', help: 'processors of the virtual machine instead of what the limits of the apps ask for', parse: values.wholeNumber(1, 255) });
export const mem = flag({ name: 'mem', scope: 'pod', placeholder: 'SIZE', help: 'memory of the virtual machine, such as 1G, instead of what the limits of the apps ask for', parse: values.memoryMib });
export const giveBackMemory = toggle('give-back-memory', 'pod', 'return memory that the pod has freed to this host while it runs');
export const tpm = flag({ name: 'tpm', scope: 'pod', placeholder: 'on|off|host', help: 'a TPM into which the start of the pod is measured; host: also one event into the TPM of this host', defaultText: 'on', parse: values.oneOf('on', 'off', 'host') });
export const sealed = toggle('sealed', 'pod', 'once started, nobody can run or change anything in the pod from outside');
export const timing = toggle('timing', 'pod', 'print where the time went');
export const dns = flag({ name: 'dns', scope: 'pod', placeholder: 'IP|host|none', help: "name servers of the pod; host: as this host's resolv.conf, none: the image's own", parse: dnsServers });
export const dnsSearch = flag({ name: 'dns-search', scope: 'pod', placeholder: 'DOMAIN,…', help: 'DNS search domains of the pod', parse: values.list });
export const dnsOpt = flag({ name: 'dns-opt', scope: 'pod', placeholder: 'OPTION,…', help: 'DNS options of the pod', parse: values.list });
export const dnsDomain = flag({ name: 'dns-domain', scope: 'pod', placeholder: 'DOMAIN', help: 'DNS domain of the pod', parse: values.nonEmpty });
export const hostsEntry = flag({ name: 'hosts-entry', scope: 'pod', placeholder: 'IP=NAME,…|host', help: "entries for /etc/hosts of the pod; host: this host's file", parse: hostsEntries });
export const mdsRegister = toggle('mds-register', 'pod', 'make the pod known to the metadata service, which its apps find at AC_METADATA_URL');

// Apps
export const exec = flag({ name: 'exec', scope: 'app', placeholder: 'PATH', help: 'override the exec command for the preceding image', once: true, parse: values.nonEmpty });
export const workingDirectory = flag({ name: 'working-dir', scope: 'app', placeholder: 'DIR', help: 'override the working directory of the preceding image', parse: values.nonEmpty });
export const readonlyRootfs = toggle('readonly-rootfs', 'app', 'make the root file system of the preceding image read-only');
export const mount = flag({ name: 'mount', scope: 'pod-or-app', placeholder: 'volume=NAME,target=PATH', help: 'mount a volume in the preceding image, or in all when before the first', parse: values.mount });
export const user = flag({ name: 'user', scope: 'app', placeholder: 'USER', help: 'user override for the preceding image (name, number, or path of a file whose owner is meant)', parse: values.nonEmpty });
export const group = flag({ name: 'group', scope: 'app', placeholder: 'GROUP', help: 'group override for the preceding image', parse: values.nonEmpty });
export const supplementaryGids = flag({ name: 'supplementary-gids', scope: 'app', placeholder: 'GID,…', help: 'supplementary group IDs for the preceding image', parse: values.groupIDs });
export const name = flag({ name: 'name', scope: 'app', placeholder: 'NAME', help: 'name of the app of the preceding image', parse: values.appName });
export const annotation = flag({ name: 'annotation', scope: 'app', placeholder: 'NAME=VALUE', help: 'annotation of the app', parse: values.annotation });
export const userAnnotation = flag({ name: 'user-annotation', scope: 'app', placeholder: 'NAME=VALUE', help: 'user annotation of the app', parse: values.nameValue('annotation must be specified as name=value') });
export const userLabel = flag({ name: 'user-label', scope: 'app', placeholder: 'NAME=VALUE', help: 'user label of the app', parse: values.nameValue('label must be specified as name=value') });
export const environment = flag({ name: 'environment', scope: 'app', placeholder: 'NAME=VALUE', help: 'an environment variable to set for the preceding image', parse: values.environmentVariable });
export const signature = flag({ name: 'signature', scope: 'app', placeholder: 'FILE', help: 'detached signature of the preceding image (an ACI): a path or a URL', once: true, parse: values.nonEmpty });

export const memory = flag({ name: 'memory', scope: 'app', placeholder: 'QUANTITY', help: "memory limit for the preceding image (16Mi, 50M, 1G)", parse: values.memoryLimit });
export const cpu = flag({ name: 'cpu', scope: 'app', placeholder: 'QUANTITY', help: 'cpu limit for the preceding image (500m, 2)', parse: values.cpuLimit });
export const cpuShares = flag({ name: 'cpu-shares', scope: 'app', placeholder: 'N', help: 'cpu weight of the preceding image', parse: values.cpuShares });
export const capsRetain = flag({ name: 'caps-retain', scope: 'app', placeholder: 'CAP,…', help: 'capabilities to retain for the preceding image', parse: values.capabilities('os/linux/capabilities-retain-set') });
export const capsRemove = flag({ name: 'caps-remove', scope: 'app', placeholder: 'CAP,…', help: 'capabilities to remove for the preceding image', parse: values.capabilities('os/linux/capabilities-remove-set') });
export const capRetain = { ...capsRetain, name: 'cap-retain', hidden: true };
export const capRemove = { ...capsRemove, name: 'cap-remove', hidden: true };
export const seccomp = flag({ name: 'seccomp', scope: 'app', placeholder: 'mode=MODE[,errno=E],CALL,…', help: 'system call filter for the preceding image', parse: values.seccomp });
export const oomScoreAdjust = flag({ name: 'oom-score-adj', scope: 'app', placeholder: 'N', help: 'out-of-memory score adjustment for the preceding image', parse: values.oomScoreAdjust });

/** rkt's documentation called it so. */
export const oomScoreAdjustLong = { ...oomScoreAdjust, name: 'oom-score-adjust', hidden: true };
export const pidsLimit = flag({ name: 'pids-limit', scope: 'app', placeholder: 'N', help: 'how many processes and threads the preceding image may have', parse: values.pidsLimit });
export const ulimit = flag({ name: 'ulimit', scope: 'app', placeholder: 'NAME=SOFT[:HARD]', help: 'resource limit of each process of the preceding image (nofile=1024:4096, core=0)', parse: values.ulimit });
export const sysctl = flag({ name: 'sysctl', scope: 'app', placeholder: 'KEY=VALUE', help: "kernel parameter of the pod that the preceding image needs (net.ipv4.ip_forward=1)", parse: values.sysctl });

/** Flags whose value is an isolator that replaces the image's of that name. */
export const ISOLATOR_FLAGS = [memory, cpu, cpuShares, oomScoreAdjust, oomScoreAdjustLong, pidsLimit, capsRetain, capsRemove, capRetain, capRemove, seccomp] as const;

/** Each becomes an annotation of the app. */
export const stopSignal = flag({ name: 'stop-signal', scope: 'app', placeholder: 'SIGNAL', help: 'what asks the app to end', defaultText: "the image's, else SIGTERM", parse: values.appSetting(STOP_SIGNAL_ANNOTATION, parseSignal) });
export const restart = flag({ name: 'restart', scope: 'app', placeholder: 'no|on-failure[:MAX]|always', help: 'what happens when the app ends', defaultText: 'no', parse: values.appSetting(RESTART_ANNOTATION, parseRestartPolicy) });
export const notify = flag({ name: 'notify', scope: 'app', help: 'the app tells by sd_notify when it is ready; the pod is ready when all such apps are', bareValue: 'true', parse: values.appSetting(NOTIFY_ANNOTATION, values.boolean) });
export const SETTING_FLAGS = [stopSignal, restart, notify] as const;

export const APP_FLAGS: readonly AnyFlag[] = [exec, workingDirectory, readonlyRootfs, mount, user, group, supplementaryGids, name, annotation, userAnnotation, userLabel, environment, signature, ...SETTING_FLAGS, ...ISOLATOR_FLAGS, ulimit, sysctl];

/** Flags of the whole pod that decide what is written by `prepare`. */
export const PREPARE_FLAGS: readonly AnyFlag[] = [...STAGE1_FLAGS, inheritEnv, setEnv, setEnvFile, pullPolicy, storeOnly, noStore, platform, keepLayers, podManifest, volume, rootfs, noOverlay, privateUsers, port, tpm];

/** Flags that decide how a prepared pod is run. */
export const START_FLAGS: readonly AnyFlag[] = [net, interactive, hostname, ipc, accelerator, kernel, cpus, mem, giveBackMemory, sealed, timing, dns, dnsSearch, dnsOpt, dnsDomain, hostsEntry, mdsRegister];

// Mutable pods
export const mntVolume = flag({ name: 'mnt-volume', scope: 'app', placeholder: 'name=NAME,kind=empty,target=PATH[,…]', help: 'a volume of the app and where it is mounted', parse: appVolume });
export const sandboxPort = flag({ name: 'port', scope: 'pod', placeholder: 'NAME:PROTOCOL:PODPORT:HOSTIP:HOSTPORT', help: 'make a port of the pod reachable on this host', parse: sandboxPortMapping });
export const podAnnotation = flag({ name: 'annotation', scope: 'pod', placeholder: 'NAME=VALUE', help: "set the pod's annotations", parse: values.annotation });
export const podUserAnnotation = flag({ ...userAnnotation, scope: 'pod', help: "set the pod's user annotations" });
export const podUserLabel = flag({ ...userLabel, scope: 'pod', help: "set the pod's user labels" });
/** Of `app add`: the image is in the store, volumes are the app's own. */
export const ADDED_APP_FLAGS: readonly AnyFlag[] = [...APP_FLAGS.filter((known) => known !== mount && known !== signature), mntVolume];
export const SANDBOX_FLAGS: readonly AnyFlag[] = [
  ...STAGE1_FLAGS, noOverlay, net, hostname, dns, dnsSearch, dnsOpt, dnsDomain, hostsEntry, sandboxPort, podAnnotation, podUserAnnotation, podUserLabel, accelerator, kernel, cpus, mem, tpm, sealed, timing,
];

// Other commands
export const quiet = toggle('quiet', 'command', 'suppress superfluous output on stdout, print only the UUID on success');
export const full = toggle('full', 'command', 'use long output format');
export const noLegend = toggle('no-legend', 'command', 'suppress a legend with the list');
export const format = flag({ name: 'format', scope: 'command', placeholder: 'json|json-pretty', help: 'choose the output format', parse: values.oneOf('', 'json', 'json-pretty') });
export const prettyPrint = flag({ name: 'pretty-print', scope: 'command', help: 'apply indent to format the output', defaultText: 'true', bareValue: 'true', parse: values.boolean });
export const uuidFile = flag({ name: 'uuid-file', scope: 'command', placeholder: 'FILE', help: 'read pod UUID from file instead of argument', parse: values.nonEmpty });
export const force = toggle('force', 'command', 'forced stopping');
export const stopGracePeriod = flag({ name: 'grace-period', scope: 'command', placeholder: 'DURATION', help: 'what the apps get to end by themselves before they are killed', defaultText: '10s', parse: values.stopGracePeriod });
export const noStream = toggle('no-stream', 'command', 'print one result and end');
export const interval = flag({ name: 'interval', scope: 'command', placeholder: 'DURATION', help: 'time between two results', defaultText: '1s', parse: values.interval });
export const address = flag({ name: 'address', scope: 'command', placeholder: 'IP,…', help: 'addresses of this host to listen on', defaultText: '127.0.0.1', parse: values.addresses });
export const app = flag({ name: 'app', scope: 'command', placeholder: 'NAME', help: 'name of the app within the pod', parse: values.appName });
/** `false` and `0s`: do not wait. `true` and negative durations: wait without limit. */
const waitValue = (value: string): number => {
  if (value === 'true') return -1;
  return value === 'false' ? 0 : values.duration(value);
};
export const wait = flag({ name: 'wait', scope: 'command', placeholder: 'DURATION', help: 'wait for the pod to exit, at most that long', bareValue: 'true', parse: waitValue });
export const waitReady = flag({ name: 'wait-ready', scope: 'command', placeholder: 'DURATION', help: 'wait until all apps of the pod were started, at most that long', bareValue: 'true', parse: waitValue });
export const gracePeriod = flag({ name: 'grace-period', scope: 'command', placeholder: 'DURATION', help: 'duration to wait before discarding inactive pods from garbage', defaultText: '30m', parse: values.duration });
export const expirePrepared = flag({ name: 'expire-prepared', scope: 'command', placeholder: 'DURATION', help: 'duration to wait before expiring prepared pods', defaultText: '24h', parse: values.duration });
export const markOnly = toggle('mark-only', 'command', 'move exited and aborted pods to the garbage directories without deleting them');
export const fields = flag({ name: 'fields', scope: 'command', placeholder: 'LIST', help: 'comma-separated fields to display: id, name, size, importtime, lastused', parse: values.fieldList('id', 'name', 'size', 'importtime', 'lastused') });
export const sort = flag({ name: 'sort', scope: 'command', placeholder: 'LIST', help: 'comma-separated fields to sort by: name, importtime, lastused, size', defaultText: 'importtime', parse: values.fieldList('name', 'importtime', 'lastused', 'size') });
export const overwrite = toggle('overwrite', 'command', 'overwrite the output');
export const archive = { ...toggle('archive', 'command', 'keep owners and set-id bits of the files; else they belong to the user of the app, or to whoever calls'), short: 'a' };
export const followLink = { ...toggle('follow-link', 'command', 'copy what a symbolic link at the source leads to, instead of the link'), short: 'L' };
export const rootfsOnly = toggle('rootfs-only', 'command', 'extract the root file system only');
export const oci = toggle('oci', 'command', 'write an OCI image layout instead of an ACI');
export const imageGracePeriod = flag({ name: 'grace-period', scope: 'command', placeholder: 'DURATION', help: 'duration to wait since an image was last used before removing it', defaultText: '24h', parse: values.duration });
export const maxSize = flag({ name: 'max-size', scope: 'command', placeholder: 'SIZE', help: 'remove the images used longest ago until the store is no larger than this, such as 10G', parse: values.sizeBytes });
export const order = flag({ name: 'order', scope: 'command', placeholder: 'asc|desc', help: 'sorting order', defaultText: 'asc', parse: values.oneOf('asc', 'desc') });
export const prefix = flag({ name: 'prefix', scope: 'command', placeholder: 'PREFIX', help: 'prefix to limit trust to', parse: values.nonEmpty });
export const root = toggle('root', 'command', 'trust for all images, without a prefix');
export const insecureAllowHttp = toggle('insecure-allow-http', 'command', 'allow HTTP use for key discovery and/or retrieval');
export const skipFingerprintReview = toggle('skip-fingerprint-review', 'command', 'accept key without fingerprint confirmation');
export const tuf = flag({ name: 'tuf', scope: 'command', placeholder: 'URL', help: 'trust a repository of The Update Framework instead of a key', parse: values.nonEmpty });

// Metadata service
export const listenPort = flag({ name: 'listen-port', scope: 'command', placeholder: 'PORT', help: 'serve pods on this TCP port, too, for stage1 images that need it', bareValue: '18112', parse: values.wholeNumber(1, 65535) });

// Units of systemd
export const unitName = flag({ name: 'unit-name', scope: 'command', placeholder: 'NAME', help: 'name of the unit, without .service', defaultText: 'rkt- and the name of the first app', parse: values.nonEmpty });
export const unitFiles = toggle('files', 'command', 'write the units to files in the current directory, and print their paths');
export const unitRestart = flag({ name: 'restart-policy', scope: 'command', placeholder: 'no|on-success|on-failure|on-abnormal|on-watchdog|on-abort|always', help: 'when systemd starts the pod again', defaultText: 'on-failure', parse: values.oneOf('no', 'on-success', 'on-failure', 'on-abnormal', 'on-watchdog', 'on-abort', 'always') });
export const unitSlice = flag({ name: 'slice', scope: 'command', placeholder: 'SLICE', help: 'slice in which the pod runs, such as machine.slice', parse: values.unitSlice });

// Attestation
export const logFormat = flag({ name: 'format', scope: 'command', placeholder: 'text|json|binary|cel', help: "choose the output format; binary: TCG's crypto-agile log, cel: TCG's canonical event log in JSON", defaultText: 'text', parse: values.oneOf('text', 'json', 'binary', 'cel') });
export const pcrFormat = flag({ name: 'format', scope: 'command', placeholder: 'text|json', help: 'choose the output format', defaultText: 'text', parse: values.oneOf('text', 'json') });
export const predictionFormat = flag({ name: 'format', scope: 'command', placeholder: 'json|pcrlock|rvps|text', help: "choose the output format; json: a reference for rkt attest verify, pcrlock: for systemd-pcrlock, rvps: for Trustee's reference value provider", defaultText: 'json', parse: values.oneOf('json', 'pcrlock', 'rvps', 'text') });
export const evidenceFormat = flag({ name: 'format', scope: 'command', placeholder: 'json|trustee', help: "choose the output format; trustee: the shape that Trustee's TPM verifier reads", defaultText: 'json', parse: values.oneOf('json', 'trustee') });
export const verdictFormat = pcrFormat;
export const nonce = flag({ name: 'nonce', scope: 'command', placeholder: 'HEX', help: 'what the verifier has made up for this quote: 16 to 64 random bytes, used once', parse: values.nonEmpty });
export const boundData = flag({ name: 'data', scope: 'command', placeholder: 'HEX', help: 'what the quote is bound to besides, such as a public key', parse: values.text });
export const reference = flag({ name: 'reference', scope: 'command', placeholder: 'FILE', help: 'what the pod should be, as rkt attest predict prints it; may be repeated, one of them must fit', parse: values.nonEmpty });
export const ca = flag({ name: 'ca', scope: 'command', placeholder: 'FILE', help: "certificates (PEM) of the authorities that are trusted with hosts' keys", defaultText: "this host's own", parse: values.nonEmpty });
export const policy = flag({ name: 'policy', scope: 'command', placeholder: 'FILE', help: 'what is demanded of the pod besides', parse: values.nonEmpty });
