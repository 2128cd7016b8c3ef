import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { resolve } from 'node:path';
import { parsePolicy, parseReference, verdictText, verify, type Verdict, type VerifyRequest } from '../../attest/index.ts';
import { RktError } from '../../error.ts';
import { hostCaPath } from '../../stage0/host-identity.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import type { Outcome } from '../reporter.ts';

const REFUSED_STATUS = 1;
/** Evidence holds a log of at most 32 MiB, in hexadecimal. */
const LARGEST_FILE_BYTES = 80 << 20;
const PIECE_BYTES = 64 << 10;
const STANDARD_INPUT = 0;

/** Needs nothing of this host but the files it is given. */
export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const verdict = await verify(requestOf(input, context));
  const exitStatus = verdict.ok ? 0 : REFUSED_STATUS;
  if (input.values.last(flags.verdictFormat) === 'json') return { result: { kind: 'json', value: verdictJson(verdict), pretty: true }, exitStatus };
  return { result: { kind: 'lines', lines: [verdictText(verdict).trimEnd()] }, exitStatus };
}

function requestOf({ values, positional }: ArgumentInput, context: CommandContext): VerifyRequest {
  const [evidence] = positional;
  if (evidence === undefined || positional.length > 1) throw usage('expected one file with evidence, or - for standard input');
  const nonceHex = values.last(flags.nonce);
  if (nonceHex === undefined) throw usage('expected --nonce=HEX: the nonce that was given for this evidence');
  const references = values.all(flags.reference);
  if (references.length === 0) throw usage('expected --reference=FILE: what the pod should be, as rkt attest predict prints it');
  const read = (path: string): string => readText(path === '-' ? STANDARD_INPUT : resolve(context.cwd, path), path);
  const policy = values.last(flags.policy);
  return {
    evidence: read(evidence),
    nonceHex,
    dataHex: values.last(flags.boundData),
    caPem: read(values.last(flags.ca) ?? ownCa(context)),
    references: references.map((path) => parseReference(read(path), path)),
    ...(policy === undefined ? {} : { policy: parsePolicy(read(policy), policy) }),
  };
}

/** Whoever verifies where the pod ran means that host. */
function ownCa(context: CommandContext): string {
  const path = hostCaPath(context.dataDir());
  if (!existsSync(path)) throw usage('expected --ca=FILE: the certificate of the authority of the host (there: rkt attest init)');
  return path;
}

function readText(file: string | number, name: string): string {
  try {
    const fd = typeof file === 'number' ? file : openSync(file, 'r');
    try {
      return readPieces(fd, name);
    } finally {
      if (fd !== file) closeSync(fd);
    }
  } catch (cause) {
    if (cause instanceof RktError) throw cause;
    throw new RktError('IO', `cannot read ${name}`, { cause });
  }
}

function readPieces(fd: number, name: string): string {
  const pieces: Buffer[] = [];
  for (let sizeBytes = 0; ;) {
    const piece = Buffer.alloc(PIECE_BYTES);
    const count = readSync(fd, piece);
    if (count === 0) return Buffer.concat(pieces).toString();
    pieces.push(piece.subarray(0, count));
    sizeBytes += count;
    if (sizeBytes > LARGEST_FILE_BYTES) throw new RktError('LIMIT', `${name}: more than ${LARGEST_FILE_BYTES} bytes`);
  }
}

function verdictJson({ ok, checks, claims }: Verdict): Record<string, unknown> {
  return {
    ok,
    checks: checks.map(({ name, ok: passed, findings }) => ({ name, ok: passed, findings: findings.map(({ text, event }) => ({ text, ...(event === null ? {} : { event: event + 1 }) })) })),
    ...(claims === null ? {} : { claims: { uuid: claims.uuid, data: claims.dataHex, phase: claims.story.phase, reference: claims.reference } }),
  };
}
