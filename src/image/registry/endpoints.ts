/** Where the image of a reference may be asked for: mirrors first, then the registry itself. */
import { RktError } from '../../error.ts';
import { canonicalName, DEFAULT_REGISTRY } from '../docker-reference.ts';
import type { DockerReference } from '../docker-reference.ts';
import type { RegistriesConf, RegistryRule } from './registries-conf.ts';

export interface Endpoint {
  /** `HOST[:PORT]` to connect to. */
  host: string;
  repository: string;
  /** Neither certificates nor encryption are asked for. */
  insecure: boolean;
  isMirror: boolean;
}

/** Throws RktError PERMISSION for a blocked registry. */
export function endpointsOf(reference: DockerReference, conf: RegistriesConf): Endpoint[] {
  const name = canonicalName(reference);
  const rule = ruleFor(name, reference, conf);
  if (rule === undefined) return [endpoint(name, { insecure: false, isMirror: false })];
  if (rule.blocked) throw new RktError('PERMISSION', `${name}: the registry is blocked (registries.conf, prefix ${JSON.stringify(rule.prefix)})`);
  const wants = reference.digest === undefined ? 'tag-only' : 'digest-only';
  const mirrors = rule.mirrors.filter(({ pullFromMirror }) => pullFromMirror === 'all' || pullFromMirror === wants);
  return [
    ...mirrors.map(({ location, insecure }) => endpoint(relocated(name, rule, location), { insecure, isMirror: true })),
    endpoint(relocated(name, rule, rule.location), { insecure: rule.insecure, isMirror: false }),
  ];
}

/** The rule with the longest prefix; one that names tag or digest counts, too. */
function ruleFor(name: string, { tag, digest }: DockerReference, { rules }: RegistriesConf): RegistryRule | undefined {
  const full = `${name}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
  return rules.filter(({ prefix }) => matches(prefix, full)).sort((a, b) => b.prefix.length - a.prefix.length)[0];
}

function matches(prefix: string, full: string): boolean {
  if (prefix.startsWith('*.')) return hostOf(full).replace(/:\d+$/, '').endsWith(prefix.slice(1));
  return full.startsWith(prefix) && (full.length === prefix.length || ['/', ':', '@'].includes(full.charAt(prefix.length)));
}

function relocated(name: string, rule: RegistryRule, location: string): string {
  if (location === '') return name;
  if (rule.prefix.startsWith('*.')) return location + name.slice(hostOf(name).length);
  // A prefix that names more than the repository (a tag) stands for all of it.
  return name.length < rule.prefix.length ? location.replace(/[:@][^/]*$/, '') : location + name.slice(rule.prefix.length);
}

function hostOf(name: string): string {
  const slash = name.indexOf('/');
  return slash === -1 ? name : name.slice(0, slash);
}

function endpoint(name: string, options: Pick<Endpoint, 'insecure' | 'isMirror'>): Endpoint {
  const host = hostOf(name);
  const repository = name.slice(host.length + 1);
  if (repository === '') throw new RktError('BAD_INPUT', `registries.conf: ${JSON.stringify(name)} names a registry, but no repository in it`);
  return { host: host === 'docker.io' ? DEFAULT_REGISTRY : host, repository, ...options };
}
