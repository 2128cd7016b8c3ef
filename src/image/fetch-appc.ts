/** Images by their appc name: `example.com/app:1.0,os=linux`, found by discovery. */
import { RktError } from '../error.ts';
import { appcPlatform } from '../schema/platform.ts';
import { networkOf, platformOf, policyOf } from './fetch-types.ts';
import type { FetchContext, Imported } from './fetch-types.ts';
import { openNetwork } from './network.ts';
import { platformText } from './platform.ts';
import type { AppcName } from './verification.ts';

/** `labels` are those that were asked for. Throws RktError; then the store is as it was. */
export async function importByName(app: AppcName, text: string, context: FetchContext): Promise<Imported> {
  const { store } = context;
  const policy = policyOf(context);
  const stored = policy === 'update' ? undefined : store.findByName(app.name, app.labels);
  const complete = stored === undefined ? undefined : store.completeImage(stored.id);
  if (complete !== undefined) {
    context.log?.(`using image from local store for image name ${text}`);
    return { image: complete, manifest: store.imageManifest(complete.id) };
  }
  if (policy === 'never') throw new RktError('NOT_FOUND', `${text}: no image of this name in the store`, { hint: 'the pull policy "never" does not allow to fetch it' });

  context.log?.(`searching for app image ${app.name}`);
  const wanted = { name: app.name, labels: { ...platformLabels(context), ...app.labels } };
  const settings = networkOf(context, text);
  const network = openNetwork(settings);
  let found;
  try {
    const { discoverAci } = await import('./discovery/discover.ts');
    found = await discoverAci(wanted, network.verification);
  } finally {
    network.close();
  }
  const [candidate] = found.candidates;
  if (candidate === undefined) throw new RktError('NOT_FOUND', `${text}: discovery has led nowhere`);
  const { importFromUrl } = await import('./fetch-url.ts');
  const hasVersion = app.labels['version'] !== undefined;
  return await importFromUrl({ url: candidate.aciUrl, text, signatureUrl: candidate.signatureUrl, publicKeyUrls: found.publicKeyUrls, expected: app, latest: !hasVersion }, context);
}

function platformLabels(context: FetchContext): { os: string; arch: string } {
  const platform = platformOf(context);
  const labels = appcPlatform(platform);
  if (labels === undefined) throw new RktError('UNSUPPORTED', `appc has no name for the platform ${platformText(platform)}`);
  return labels;
}
