/** Signature policies: containers-policy.json(5), read as strictly as that manual asks. */
import { arrayOf, fail, fieldOf, oneOf, stringValue } from '../../schema/check.ts';
import type { Check } from '../../schema/check.ts';
import { isNamePrefix, parseImageIdentity } from '../trust/image-identity.ts';
import { exactObjectOf, parseStrictDocument } from './strict-json.ts';

/** What the name inside a signature must be like. */
export type SignedIdentity =
  | { type: 'matchExact' }
  | { type: 'matchRepoDigestOrExact' }
  | { type: 'matchRepository' }
  | { type: 'exactReference'; dockerReference: string }
  | { type: 'exactRepository'; dockerRepository: string }
  | { type: 'remapIdentity'; prefix: string; signedPrefix: string };

/** One key file, or content given in place. */
export type KeySource = { path: string } | { data: Uint8Array };

/** Whose signature of which kind is asked for. Each of the keys will do. */
export type SigstoreAuthority =
  | { kind: 'key'; keys: KeySource[] }
  | { kind: 'fulcio'; certificates: KeySource; oidcIssuer: string; subjectEmail: string };

export type PolicyRequirement =
  | { type: 'insecureAcceptAnything' }
  | { type: 'reject' }
  | { type: 'signedBy'; keys: KeySource[]; signedIdentity: SignedIdentity }
  /** `rekorKeys`: the signature must be in a transparency log with one of these keys; empty: it need not. */
  | { type: 'sigstoreSigned'; authority: SigstoreAuthority; rekorKeys: KeySource[]; signedIdentity: SignedIdentity };

export interface Policy {
  default: PolicyRequirement[];
  /** Requirements by transport (`docker`, `oci`, …), then by scope; the scope `''` is the transport's default. */
  transports: Record<string, Record<string, PolicyRequirement[]>>;
}

const MAX_SCOPES = 10_000;

/** Throws RktError BAD_INPUT naming file and field; nothing of a policy that is not understood is used. */
export function parsePolicy(text: string, origin: string): Policy {
  const { default: fallback, transports } = parseStrictDocument(text, policyDocument, { origin, code: 'BAD_INPUT' });
  return { default: fallback, transports: transports ?? {} };
}

/** The requirements for an image: those of the first of its scopes (most specific first) that the policy names. */
export function requirementsFor(policy: Policy, transport: string, scopes: readonly string[]): PolicyRequirement[] {
  const byScope = Object.hasOwn(policy.transports, transport) ? policy.transports[transport] : undefined;
  const scope = [...scopes, ''].find((candidate) => byScope !== undefined && Object.hasOwn(byScope, candidate));
  return (scope === undefined ? undefined : byScope?.[scope]) ?? policy.default;
}

const dockerReference: Check<string> = (value, place) => {
  const text = stringValue(value, place);
  const identity = parseImageIdentity(text);
  if (identity === undefined || (identity.tag === undefined && identity.digest === undefined)) fail(place, `expected a name with tag or digest, found ${JSON.stringify(text)}`);
  return text;
};

const dockerRepository: Check<string> = (value, place) => {
  const text = stringValue(value, place);
  const identity = parseImageIdentity(text);
  if (identity === undefined || identity.tag !== undefined || identity.digest !== undefined) fail(place, `expected the name of a repository, found ${JSON.stringify(text)}`);
  return text;
};

const identityPrefix: Check<string> = (value, place) => {
  const text = stringValue(value, place);
  return isNamePrefix(text) ? text : fail(place, `expected a host, namespace or repository in full, found ${JSON.stringify(text)}`);
};

type OfIdentity<K extends SignedIdentity['type']> = Extract<SignedIdentity, { type: K }>;

const SIGNED_IDENTITIES: { readonly [K in SignedIdentity['type']]: Check<OfIdentity<K>> } = {
  matchExact: exactObjectOf<OfIdentity<'matchExact'>>({ type: oneOf(['matchExact']) }),
  matchRepoDigestOrExact: exactObjectOf<OfIdentity<'matchRepoDigestOrExact'>>({ type: oneOf(['matchRepoDigestOrExact']) }),
  matchRepository: exactObjectOf<OfIdentity<'matchRepository'>>({ type: oneOf(['matchRepository']) }),
  exactReference: exactObjectOf<OfIdentity<'exactReference'>>({ type: oneOf(['exactReference']), dockerReference }),
  exactRepository: exactObjectOf<OfIdentity<'exactRepository'>>({ type: oneOf(['exactRepository']), dockerRepository }),
  remapIdentity: exactObjectOf<OfIdentity<'remapIdentity'>>({ type: oneOf(['remapIdentity']), prefix: identityPrefix, signedPrefix: identityPrefix }),
};

const signedIdentity: Check<SignedIdentity> = (value, place) => {
  if (value === undefined) return { type: 'matchRepoDigestOrExact' };
  return byType<SignedIdentity>(SIGNED_IDENTITIES)(value, place);
};

/** Chooses the check by the field `type`. */
function byType<T>(checks: Readonly<Record<string, Check<T>>>): Check<T> {
  const types = Object.keys(checks);
  return (value, place) => {
    const type = oneOf(types)(typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined, fieldOf(place, 'type'));
    const check = checks[type];
    return check === undefined ? fail(place, 'unknown type') : check(value, place);
  };
}

/** Null is no way to leave a field out here: whoever wrote it may have meant something. */
function absentOr<T>(check: Check<T>): Check<T | undefined> {
  return (value, place) => (value === undefined ? undefined : check(value, place));
}

const base64: Check<Uint8Array> = (value, place) => {
  const text = stringValue(value, place);
  const bytes = Buffer.from(text, 'base64');
  if (text === '' || bytes.toString('base64') !== text) fail(place, 'expected data in base64');
  return bytes;
};

const path: Check<string> = (value, place) => {
  const text = stringValue(value, place);
  return text === '' ? fail(place, 'expected a path') : text;
};

/** An empty list would accept nobody, or, where a key is optional, anybody. */
function listOf<T>(check: Check<T>): Check<T[]> {
  return (value, place) => {
    const list = arrayOf(check)(value, place);
    return list.length === 0 ? fail(place, 'expected at least one') : list;
  };
}

/** The fields that give one thing in one of several ways, as the manual names them. */
interface SourceFields {
  path?: string | undefined;
  paths?: string[] | undefined;
  data?: Uint8Array | undefined;
  datas?: Uint8Array[] | undefined;
}

/** All sources of the one way that was used; undefined when none was, `several` when the file is ambiguous. */
function sourcesOf({ path: onePath, paths, data, datas }: SourceFields): KeySource[] | undefined | 'several' {
  const ways = [onePath === undefined ? undefined : [onePath], paths].map((list) => list?.map((given): KeySource => ({ path: given })));
  const dataWays = [data === undefined ? undefined : [data], datas].map((list) => list?.map((given): KeySource => ({ data: given })));
  const used = [...ways, ...dataWays].filter((way) => way !== undefined);
  return used.length > 1 ? 'several' : used[0];
}

interface SignedByFields {
  type: 'signedBy';
  keyType: 'GPGKeys';
  keyPath?: string;
  keyPaths?: string[];
  keyData?: Uint8Array;
  signedIdentity: SignedIdentity;
}

const signedByFields = exactObjectOf<SignedByFields>({
  type: oneOf(['signedBy']),
  keyType: oneOf(['GPGKeys']),
  keyPath: absentOr(path),
  keyPaths: absentOr(listOf(path)),
  keyData: absentOr(base64),
  signedIdentity,
});

const signedBy: Check<PolicyRequirement> = (value, place) => {
  const fields = signedByFields(value, place);
  const keys = sourcesOf({ path: fields.keyPath, paths: fields.keyPaths, data: fields.keyData });
  if (keys === undefined || keys === 'several') return fail(place, 'expected exactly one of keyPath, keyPaths, keyData');
  return { type: 'signedBy', keys, signedIdentity: fields.signedIdentity };
};

interface FulcioFields {
  caPath?: string;
  caData?: Uint8Array;
  oidcIssuer: string;
  subjectEmail: string;
}

const nonEmpty: Check<string> = (value, place) => stringValue(value, place) || fail(place, 'expected a value');

const fulcioFields = exactObjectOf<FulcioFields>({ caPath: absentOr(path), caData: absentOr(base64), oidcIssuer: nonEmpty, subjectEmail: nonEmpty });

const fulcio: Check<SigstoreAuthority> = (value, place) => {
  const { caPath, caData, oidcIssuer, subjectEmail } = fulcioFields(value, place);
  const sources = sourcesOf({ path: caPath, data: caData });
  const [certificates] = sources === 'several' ? [] : (sources ?? []);
  if (certificates === undefined) return fail(place, 'expected exactly one of caPath, caData');
  return { kind: 'fulcio', certificates, oidcIssuer, subjectEmail };
};

interface SigstoreSignedFields {
  type: 'sigstoreSigned';
  keyPath?: string;
  keyPaths?: string[];
  keyData?: Uint8Array;
  keyDatas?: Uint8Array[];
  fulcio?: SigstoreAuthority;
  rekorPublicKeyPath?: string;
  rekorPublicKeyPaths?: string[];
  rekorPublicKeyData?: Uint8Array;
  rekorPublicKeyDatas?: Uint8Array[];
  signedIdentity: SignedIdentity;
}

const sigstoreSignedFields = exactObjectOf<SigstoreSignedFields>({
  type: oneOf(['sigstoreSigned']),
  keyPath: absentOr(path),
  keyPaths: absentOr(listOf(path)),
  keyData: absentOr(base64),
  keyDatas: absentOr(listOf(base64)),
  fulcio: absentOr(fulcio),
  rekorPublicKeyPath: absentOr(path),
  rekorPublicKeyPaths: absentOr(listOf(path)),
  rekorPublicKeyData: absentOr(base64),
  rekorPublicKeyDatas: absentOr(listOf(base64)),
  signedIdentity,
});

const sigstoreSigned: Check<PolicyRequirement> = (value, place) => {
  const fields = sigstoreSignedFields(value, place);
  const keys = sourcesOf({ path: fields.keyPath, paths: fields.keyPaths, data: fields.keyData, datas: fields.keyDatas });
  const rekorKeys = sourcesOf({ path: fields.rekorPublicKeyPath, paths: fields.rekorPublicKeyPaths, data: fields.rekorPublicKeyData, datas: fields.rekorPublicKeyDatas });
  if (rekorKeys === 'several') return fail(place, 'expected at most one of rekorPublicKeyPath, rekorPublicKeyPaths, rekorPublicKeyData, rekorPublicKeyDatas');
  const authorities: SigstoreAuthority[] = [...(fields.fulcio === undefined ? [] : [fields.fulcio]), ...(keys === undefined || keys === 'several' ? [] : [{ kind: 'key' as const, keys }])];
  const [authority] = authorities;
  if (authority === undefined || authorities.length > 1 || keys === 'several') return fail(place, 'expected exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio');
  if (authority.kind === 'fulcio' && rekorKeys === undefined) return fail(place, 'fulcio needs the key of the transparency log (rekorPublicKeyPath or one of its like): a certificate alone does not tell when it was used');
  return { type: 'sigstoreSigned', authority, rekorKeys: rekorKeys ?? [], signedIdentity: fields.signedIdentity };
};

const requirement: Check<PolicyRequirement> = byType<PolicyRequirement>({
  insecureAcceptAnything: exactObjectOf<{ type: 'insecureAcceptAnything' }>({ type: oneOf(['insecureAcceptAnything']) }),
  reject: exactObjectOf<{ type: 'reject' }>({ type: oneOf(['reject']) }),
  signedBy,
  sigstoreSigned,
});

const requirements = listOf(requirement);

function scopeMap<T>(check: Check<T>): Check<Record<string, T>> {
  return (value, place) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail(place, 'expected an object');
    const entries = Object.entries(value);
    if (entries.length > MAX_SCOPES) return fail(place, `more than ${MAX_SCOPES} entries`);
    return Object.fromEntries(entries.map(([scope, item]) => [scope, check(item, fieldOf(place, scope))]));
  };
}

interface PolicyDocument {
  default: PolicyRequirement[];
  transports?: Policy['transports'];
}

const policyDocument = exactObjectOf<PolicyDocument>({
  default: requirements,
  transports: absentOr(scopeMap(scopeMap(requirements))),
});
