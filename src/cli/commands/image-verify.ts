import { RktError } from '../../error.ts';
import { openStore } from '../../store/index.ts';
import type { Store, StoredImage } from '../../store/index.ts';
import { verifyDisk } from '../../store/verify-disk.ts';
import type { VerifiedBy } from '../../schema/verified-by.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { findStoredImage } from '../find-image.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { failure, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** What is known of one image. `disk`: of what runs, dependencies included. */
interface Report {
  id: string;
  name: string;
  verifiedBy: readonly VerifiedBy[];
  /** The images below it, whose content is part of the disk. */
  dependencies: { id: string; name: string; verifiedBy: readonly VerifiedBy[] }[];
  rootHashHex: string;
  sizeBytes: number;
}

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  if (positional.length === 0) throw usage('must provide at least one image');
  const store = openStore(context.dataDir());
  const reports: Report[] = [];
  for (const text of positional) {
    try {
      reports.push(await verifyImage(store, findStoredImage(store, text)));
    } catch (error) {
      context.reporter.error(error, `cannot verify ${text}`);
    }
  }
  const outcome = reports.length === positional.length ? success : failure;
  const format = values.last(flags.format) ?? '';
  if (format === '') return outcome({ kind: 'lines', lines: reports.flatMap(reportLines) });
  return outcome({ kind: 'json', value: reports.map(reportJson), pretty: format === 'json-pretty' });
}

async function verifyImage(store: Store, image: StoredImage): Promise<Report> {
  const disk = store.disk(image.id);
  await verifyDisk(disk);
  return {
    ...vouchersOf(image),
    dependencies: (image.dependencies ?? []).map((id) => vouchersOf(dependencyOf(store, image, id))),
    rootHashHex: disk.rootHashHex,
    sizeBytes: disk.dataBlocks * BLOCK_BYTES,
  };
}

const BLOCK_BYTES = 4096;

function dependencyOf(store: Store, image: StoredImage, id: string): StoredImage {
  try {
    return store.findImage(id);
  } catch (cause) {
    throw new RktError('NOT_FOUND', `${image.name} is made of ${id}, which is no longer in the store: nothing tells who vouched for it`, { cause });
  }
}

function vouchersOf(image: StoredImage): { id: string; name: string; verifiedBy: readonly VerifiedBy[] } {
  const version = image.labels['version'];
  return { id: image.id, name: version === undefined ? image.name : `${image.name}:${version}`, verifiedBy: image.verifiedBy ?? [] };
}

function reportLines({ id, name, verifiedBy, dependencies, rootHashHex, sizeBytes }: Report): string[] {
  return [
    `${name} (${id})`,
    ...voucherLines(verifiedBy),
    ...dependencies.flatMap((dependency) => [`  with ${dependency.name} (${dependency.id})`, ...voucherLines(dependency.verifiedBy).map((line) => `  ${line}`)]),
    `  content: ${sizeBytes} bytes agree with the root hash ${rootHashHex}`,
  ];
}

function voucherLines(verifiedBy: readonly VerifiedBy[]): string[] {
  return (verifiedBy.length === 0 ? ['not verified: read from a file of this machine'] : verifiedBy.map(voucherText)).map((text) => `  ${text}`);
}

const NOBODY: Readonly<Record<Extract<VerifiedBy, { kind: 'none' }>['reason'], string>> = {
  'insecure-option': 'verification was off (--insecure-options=image)',
  'policy-accepts-anything': 'the signature policy accepts anything of that name',
  'no-policy': 'no signature policy was set up',
};

function voucherText(by: VerifiedBy): string {
  switch (by.kind) {
    case 'openpgp':
      return `signed with OpenPGP: ${by.identity}, key ${by.fingerprint}, trusted for ${by.prefix === '' ? 'all images' : by.prefix}`;
    case 'simple-signing':
      return `signed with OpenPGP: ${by.identity}, key ${by.fingerprint}, as ${by.reference}`;
    case 'sigstore-key':
      return `signed with cosign: key ${by.keyDigest}, as ${by.reference}`;
    case 'sigstore-keyless':
      return `signed with cosign: ${by.identity}, according to ${by.issuer}, as ${by.reference}`;
    case 'tuf':
      return `named by the TUF repository ${by.repository}: role ${by.role}, version ${by.version}`;
    case 'digest':
      return `asked for by its digest ${by.digest}`;
    case 'none':
      return `not verified: ${NOBODY[by.reason]}`;
  }
}

function reportJson({ id, name, verifiedBy, dependencies, rootHashHex, sizeBytes }: Report): object {
  return {
    id,
    name,
    verified_by: verifiedBy,
    dependencies: dependencies.map((dependency) => ({ id: dependency.id, name: dependency.name, verified_by: dependency.verifiedBy })),
    disk: { root_hash: rootHashHex, size: sizeBytes },
  };
}
