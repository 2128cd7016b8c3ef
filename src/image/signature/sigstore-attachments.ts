/**
 * Sigstore signatures kept in the image's own repository: under the tag `sha256-DIGEST.sig` (cosign SIGNATURE_SPEC.md,
 * "Storage") and among what refers to the manifest (OCI distribution-spec, "Listing Referrers"). Nothing is verified here.
 */
import { RktError } from '../../error.ts';
import { parseOciManifest } from '../../schema/oci.ts';
import type { Descriptor, OciManifest } from '../../schema/oci.ts';
import { utf8Text } from '../bytes.ts';
import type { RegistryAccess } from '../verification.ts';
import { CLAIM_LIMIT_BYTES } from './signature-claim.ts';

export type SigstoreAttachment =
  /** A payload of its own, with what belongs to its signature in the annotations. */
  | { kind: 'payload'; payload: Uint8Array; annotations: Readonly<Record<string, string>> }
  /** A Sigstore bundle (JSON text). */
  | { kind: 'bundle'; text: string };

const BUNDLE_LIMIT_BYTES = 4 << 20;
const MAX_ATTACHMENTS = 128;
const PAYLOAD_TYPE = 'application/vnd.dev.cosign.simplesigning.v1+json';
const COSIGN_ARTIFACT = 'application/vnd.dev.cosign.artifact.sig.v1+json';
const BUNDLE_TYPE = /^application\/vnd\.dev\.sigstore\.bundle(?:\.v\d+\.\d+)?\+json(?:;.*)?$/;

/** Every attachment of a manifest. Throws RktError, but not because there are none. */
export async function* sigstoreAttachments(access: RegistryAccess, manifestDigest: string): AsyncGenerator<SigstoreAttachment, void, undefined> {
  let left = MAX_ATTACHMENTS;
  for await (const layer of attachedLayers(access, manifestDigest)) {
    if (left-- === 0) throw new RktError('LIMIT', `${access.host}/${access.repository}: more than ${MAX_ATTACHMENTS} signatures of ${manifestDigest}`);
    if (layer.mediaType === PAYLOAD_TYPE) yield { kind: 'payload', payload: await access.getBlob(layer, CLAIM_LIMIT_BYTES), annotations: layer.annotations ?? {} };
    else if (BUNDLE_TYPE.test(layer.mediaType)) yield { kind: 'bundle', text: utf8Text(await access.getBlob(layer, BUNDLE_LIMIT_BYTES), layer.digest) };
  }
}

async function* attachedLayers(access: RegistryAccess, manifestDigest: string): AsyncGenerator<Descriptor, void, undefined> {
  const tagged = await manifestIfThere(access, `${manifestDigest.replace(':', '-')}.sig`);
  yield* tagged?.layers ?? [];
  for (const referrer of await access.listReferrers(manifestDigest)) {
    const { artifactType = '' } = referrer;
    if (artifactType !== COSIGN_ARTIFACT && !BUNDLE_TYPE.test(artifactType)) continue;
    yield* (await manifestIfThere(access, referrer.digest))?.layers ?? [];
  }
}

async function manifestIfThere(access: RegistryAccess, reference: string): Promise<OciManifest | undefined> {
  const origin = `${access.host}/${access.repository}: signatures at ${reference}`;
  try {
    const { bytes } = await access.getManifest(reference);
    return parseOciManifest(utf8Text(bytes, origin), origin);
  } catch (error) {
    if (error instanceof RktError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}
