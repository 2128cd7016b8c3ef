/**
 * Between fetching an image and vouching for it: what one side asks of the other. The implementations are loaded only
 * when an image is really fetched over a network (`signature/`, `discovery/`).
 */
import type { Descriptor } from '../schema/oci.ts';
import type { VerifiedBy } from '../schema/verified-by.ts';

export type { VerifiedBy };

/** A whole small document from a web server. */
export interface FetchedDocument {
  /** 2xx; anything else is thrown as RktError, 404 and 410 as NOT_FOUND. */
  status: number;
  bytes: Uint8Array;
  /** Where it came from in the end, behind redirects. */
  url: string;
  /** Lower case names. */
  headers: ReadonlyMap<string, string>;
}

export interface DocumentRequest {
  /** More bytes than this are refused. */
  limitBytes: number;
  accept?: string;
}

/**
 * Gets a document with rkt's rules: credentials of `auth.d` only to their own hosts, redirects by hand, plain http only when
 * `--insecure-options=http` allows it, retries, time limits. Throws RktError.
 */
export type FetchDocument = (url: string, request: DocumentRequest) => Promise<FetchedDocument>;

/** What the verifier may ask a registry about one repository; every byte it gets has the digest it was asked for. */
export interface RegistryAccess {
  readonly host: string;
  readonly repository: string;
  /** `reference`: a tag or a digest. Throws NOT_FOUND. */
  getManifest(reference: string): Promise<{ bytes: Uint8Array; digest: string; mediaType: string }>;
  getBlob(descriptor: { digest: string; size: number }, limitBytes: number): Promise<Uint8Array>;
  /** Manifests whose `subject` is the digest; registries without the referrers API are asked by tag. */
  listReferrers(digest: string, artifactType?: string): Promise<Descriptor[]>;
}

/** Protections that are off (`--insecure-options`). */
export interface InsecureFetch {
  image: boolean;
  tls: boolean;
  http: boolean;
  pubkey: boolean;
}

export interface VerificationOptions {
  insecure: InsecureFetch;
  /** Directories of configuration, lowest precedence first: system, local, user. */
  configDirs: readonly string[];
  /** `--local-config`: where trusted keys are added. */
  localConfigDir: string;
  /** The data directory: what must not be older the next time (TUF) is remembered below it. */
  dataDir: string;
  trustKeysFromHttps: boolean;
  fetchDocument: FetchDocument;
  /** One line for standard error. */
  onMessage(message: string): void;
}

export interface RegistrySubject {
  /** `HOST/REPOSITORY[:TAG][@DIGEST]` in full, Docker Hub as `docker.io/library/…`. */
  reference: string;
  /** Of the document the reference led to (a manifest, or an index of several platforms). */
  manifestDigest: string;
  /** Of the image manifest chosen for the platform; the same unless the reference led to an index. */
  imageManifestDigest: string;
  access: RegistryAccess;
}

/** `signature/verify-registry-image.ts`, export `verifyRegistryImage`. Throws RktError BAD_SIGNATURE. */
export type VerifyRegistryImage = (subject: RegistrySubject, options: VerificationOptions) => Promise<VerifiedBy[]>;

export interface AciSubject {
  /** appc image name of its manifest: decides which keys count. */
  name: string;
  /** Path or URL the image came from: begins messages. */
  origin: string;
  /** The ACI as downloaded, still compressed. It does not change while it is verified. */
  file: string;
  /** The detached signature, armored or binary. */
  signature: Uint8Array;
  /** Where keys may be found that are not trusted yet (from discovery). */
  publicKeyUrls: readonly string[];
}

/** `signature/verify-aci.ts`, export `verifyAci`. Throws RktError BAD_SIGNATURE. Not called with `insecure.image`. */
export type VerifyAci = (subject: AciSubject, options: VerificationOptions) => Promise<VerifiedBy>;

export interface AppcName {
  name: string;
  /** `version`, `os`, `arch` and what else was asked for; `os` and `arch` are always there. */
  labels: Readonly<Record<string, string>>;
}

export interface DiscoveredAci {
  /** In the order of preference; never empty. */
  candidates: { aciUrl: string; signatureUrl: string }[];
  publicKeyUrls: string[];
}

/** `discovery/discover.ts`, export `discoverAci`. Throws RktError NOT_FOUND. */
export type DiscoverAci = (app: AppcName, options: VerificationOptions) => Promise<DiscoveredAci>;
