/** Names without transport: appc names, unless `registries.conf` says what a short one means. */
import { RktError } from '../error.ts';
import { requireDockerReference } from './docker-reference.ts';
import { importByName } from './fetch-appc.ts';
import { importFromRegistry } from './fetch-docker.ts';
import { policyOf } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';
import { readRegistriesConf, registriesConfPaths } from './registry/registries-conf.ts';
import type { RegistriesConf } from './registry/registries-conf.ts';
import type { AppcName } from './verification.ts';

export interface UnqualifiedName {
  app: AppcName;
  text: string;
}

/**
 * A name without a host (`busybox`, `alpine:3.20`) cannot be discovered. It is an alias of `registries.conf`, or is looked for
 * in its search registries; everything else is an appc name, as always in rkt. Throws RktError.
 */
export async function importUnqualified(name: UnqualifiedName, context: FetchContext): Promise<Imported> {
  const places = context.network === undefined || !isShort(name) ? [] : placesOf(name.text, await readRegistriesConf(registriesConfPaths(context.network.env)));
  if (places.length === 0) return await importByName(name.app, name.text, context);
  const stored = policyOf(context) === 'update' ? undefined : context.store.findByName(name.app.name, name.app.labels);
  if (stored !== undefined) return await importByName(name.app, name.text, context);
  const failures: string[] = [];
  for (const place of places) {
    try {
      return await importFromRegistry({ reference: requireDockerReference(place, name.text), text: name.text }, context);
    } catch (error) {
      if (!(error instanceof RktError) || error.code !== 'NOT_FOUND') throw error;
      failures.push(error.message);
    }
  }
  throw new RktError('NOT_FOUND', `${name.text}: not found in ${places.join(', ')}`, { hint: failures.at(-1) ?? '' });
}

/** A name with a host in it has a dot or a colon before the first slash. */
function isShort({ app }: UnqualifiedName): boolean {
  const labels = Object.keys(app.labels).filter((label) => label !== 'version');
  return labels.length === 0 && !/[.:]/.test(app.name.split('/')[0] ?? '');
}

function placesOf(text: string, { aliases, searchRegistries }: RegistriesConf): string[] {
  const colon = text.indexOf(':');
  const [name, version] = colon === -1 ? [text, ''] : [text.slice(0, colon), text.slice(colon)];
  const alias = Object.hasOwn(aliases, name) ? aliases[name] : undefined;
  if (alias !== undefined) return [`${alias}${version}`];
  return searchRegistries.map((registry) => `${registry}/${text}`);
}
