/** Arguments of `run`: those of rkt's interface, as far as a process of this host can be given them. No system calls here. */
import { Stage1Error } from '../stage1-kvm/error.ts';
import { parseRunArguments, type RunOptions } from '../stage1-kvm/options.ts';

/** Network, IPC objects and host name are this host's; stage0 has refused what asks for others. */
const WITHOUT_EFFECT: readonly string[] = ['net', 'ipc', 'hostname'];
const KNOWN: readonly string[] = [
  'debug', 'interactive', 'dns-conf-mode', 'disable-capabilities-restriction', 'disable-paths', 'disable-seccomp', 'local-config',
];

/** @throws Stage1Error on a bad value, a missing UUID, and any flag that only a virtual machine can obey. */
export function parseFlyArguments(args: readonly string[]): RunOptions {
  const kept = args.filter((argument) => {
    if (!argument.startsWith('--')) return true;
    const name = argument.slice(2).split('=')[0]!;
    if (WITHOUT_EFFECT.includes(name)) return false;
    if (!KNOWN.includes(name)) throw new Stage1Error(`flag --${name} cannot be used with a fly stage1`);
    return true;
  });
  return parseRunArguments(['--net=none', ...kept]);
}
