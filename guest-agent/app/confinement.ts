/** From an app's isolators and user to what `confine` enforces. */
import type { Machine, AppPlace } from '../machine/machine.ts';
import type { StartMessage } from '../messages.ts';
import { DEFAULT_FILTER } from '../seccomp/default-filter.gen.ts';
import { compileFilter, encodeInstructions, filterProgram, policyOf } from '../seccomp/filter.ts';
import type { Confinement } from '../confine.ts';
import type { Isolation } from './isolators.ts';
import type { Identity } from './users.ts';

export interface ConfinementRequest {
  isolation: Isolation;
  identity: Identity;
  place: AppPlace;
  insecure: StartMessage['insecure'];
  machine: Pick<Machine, 'i386' | 'ownsProcesses'>;
}

export function confinementOf({ isolation, identity, place, insecure, machine }: ConfinementRequest): Confinement {
  const seccomp = insecure.seccomp ? null : seccompFilter(isolation, machine);
  return {
    mountNamespaceFd: place.root.mountNamespaceFd,
    cgroupNamespace: place.cgroup.fd >= 0,
    uid: identity.uid,
    gid: identity.gid,
    supplementaryGids: identity.supplementaryGids,
    capabilities: insecure.capabilities ? null : isolation.capabilities,
    // The kernel lets a user without CAP_SYS_ADMIN install a filter only together with this.
    noNewPrivileges: isolation.noNewPrivileges || (seccomp !== null && identity.uid !== 0),
    seccomp,
    oomScoreAdjust: isolation.oomScoreAdjust,
    rlimits: isolation.rlimits,
    diesWithAgent: !machine.ownsProcesses,
  };
}

function seccompFilter({ seccomp }: Isolation, { i386 }: Pick<Machine, 'i386'>): Uint8Array | null {
  if (seccomp === undefined && !i386) return filterProgram(new Uint32Array(DEFAULT_FILTER));
  const policy = policyOf(seccomp);
  return policy === undefined ? null : filterProgram(encodeInstructions(compileFilter(policy, { i386 })));
}

/** The same confinement as root: event handlers before and after an app run so, because they prepare what it needs. */
export function asRoot(confinement: Confinement): Confinement {
  return { ...confinement, uid: 0, gid: 0, supplementaryGids: [] };
}
