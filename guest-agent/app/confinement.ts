/** From an app's isolators and user to what `confine` enforces. */
import type { Machine, AppPlace } from '../machine/machine.ts';
import type { StartMessage } from '../messages.ts';
import { compileFilter, encodeFilter, policyOf } from '../seccomp/filter.ts';
import type { Confinement } from '../confine.ts';
import type { Isolation } from './isolators.ts';
import type { Identity } from './users.ts';

export interface ConfinementRequest {
  isolation: Isolation;
  identity: Identity;
  place: AppPlace;
  insecure: StartMessage['insecure'];
  machine: Pick<Machine, 'i386'>;
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
  };
}

/** The filter nearly every app has, made ahead of time. */
let defaultFilter: Uint8Array | null | undefined;

export function prepareDefaultFilter(machine: Pick<Machine, 'i386'>): void {
  defaultFilter = build(undefined, machine);
}

function seccompFilter({ seccomp }: Isolation, machine: Pick<Machine, 'i386'>): Uint8Array | null {
  if (seccomp !== undefined) return build(seccomp, machine);
  if (defaultFilter === undefined) prepareDefaultFilter(machine);
  return defaultFilter ?? null;
}

function build(rule: Isolation['seccomp'], machine: Pick<Machine, 'i386'>): Uint8Array | null {
  const policy = policyOf(rule);
  return policy === undefined ? null : encodeFilter(compileFilter(policy, { i386: machine.i386 }));
}

/** The same confinement as root: event handlers before and after an app run so, because they prepare what it needs. */
export function asRoot(confinement: Confinement): Confinement {
  return { ...confinement, uid: 0, gid: 0, supplementaryGids: [] };
}
