/** The frame of TPM 2.0 commands and responses (TPM 2.0 Library, part 1, 18). */
import { ByteReader, ByteWriter } from './bytes.ts';
import { TPM_CC, TPM_RH, TPM_ST, type TpmCommandName } from './constants.ts';
import { TPM_RC, TpmResponseError } from './response-code.ts';

export const TPM_HEADER_BYTES = 10;
/** TPM2_PT_MAX_COMMAND_SIZE and TPM2_PT_MAX_RESPONSE_SIZE of swtpm. */
export const TPM_MAX_MESSAGE_BYTES = 4096;

const CONTINUE_SESSION = 0x01;
const EMPTY = new Uint8Array(0);

/** A command ready to be sent, and how its answer is read. */
export interface TpmCommand<T> {
  name: TpmCommandName;
  bytes: Uint8Array<ArrayBuffer>;
  /** @throws TpmResponseError when the TPM refused, RktError BAD_INPUT when its answer cannot be read */
  decode(response: Uint8Array): T;
}

export interface CommandLayout {
  handles?: readonly number[];
  /** One for each handle that needs authorization, in their order: a password (nearly always empty) or a policy session. */
  authorizations?: readonly Authorization[];
  parameters?: Uint8Array;
  responseHandles?: number;
}

export type Authorization = { kind: 'password'; password: Uint8Array } | { kind: 'policy'; session: number };

export const NO_PASSWORD: Authorization = { kind: 'password', password: EMPTY };

export interface ResponseBody {
  handles: readonly number[];
  parameters: ByteReader;
}

/** @param read reads the parameters; what it leaves over is an error */
export function tpmCommand<T>(name: TpmCommandName, layout: CommandLayout, read: (body: ResponseBody) => T): TpmCommand<T> {
  const { handles = [], authorizations = [], parameters = EMPTY } = layout;
  const tag = authorizations.length > 0 ? TPM_ST.sessions : TPM_ST.noSessions;
  const areaBytes = authorizations.reduce((size, authorization) => size + authorizationBytes(authorization), 0);
  const sizeBytes = TPM_HEADER_BYTES + 4 * handles.length + (authorizations.length > 0 ? 4 + areaBytes : 0) + parameters.length;
  const command = new ByteWriter('big').u16(tag).u32(sizeBytes).u32(TPM_CC[name]);
  for (const handle of handles) command.u32(handle);
  if (authorizations.length > 0) command.u32(areaBytes);
  for (const authorization of authorizations) writeAuthorization(command, authorization);
  return {
    name,
    bytes: command.raw(parameters).bytes,
    decode: (response) => decodeResponse(name, response, { tag, sessions: authorizations.length, handles: layout.responseHandles ?? 0, read }),
  };
}

/** Session handle, no nonce, attributes, and the password. */
function authorizationBytes(authorization: Authorization): number {
  return 4 + 2 + 1 + 2 + (authorization.kind === 'password' ? authorization.password.length : 0);
}

function writeAuthorization(command: ByteWriter, authorization: Authorization): void {
  const isPassword = authorization.kind === 'password';
  command.u32(isPassword ? TPM_RH.password : authorization.session).u16(0).u8(isPassword ? 0 : CONTINUE_SESSION).sized16(isPassword ? authorization.password : EMPTY);
}

interface Expectation<T> {
  tag: number;
  sessions: number;
  handles: number;
  read(body: ResponseBody): T;
}

function decodeResponse<T>(name: TpmCommandName, response: Uint8Array, expected: Expectation<T>): T {
  const reader = new ByteReader(response, 'big', `answer to TPM2_${name}`);
  const tag = reader.u16();
  const sizeBytes = reader.u32();
  if (sizeBytes !== response.length) reader.fail(`says it has ${sizeBytes} bytes, has ${response.length}`);
  const code = reader.u32();
  if (code !== TPM_RC.success) {
    reader.expectEnd();
    throw new TpmResponseError(name, code);
  }
  if (tag !== expected.tag) reader.fail(`tag 0x${tag.toString(16)}, expected 0x${expected.tag.toString(16)}`);
  const handles: number[] = [];
  for (let i = 0; i < expected.handles; i++) handles.push(reader.u32());
  const parameters = new ByteReader(reader.take(expected.sessions > 0 ? reader.u32() : reader.leftBytes), 'big', `answer to TPM2_${name}`);
  const value = expected.read({ handles, parameters });
  parameters.expectEnd();
  for (let i = 0; i < expected.sessions; i++) {
    reader.sized16();
    reader.u8();
    reader.sized16();
  }
  reader.expectEnd();
  return value;
}

/** For commands that answer with success only. */
export function nothing(): void {}

/** An answer that is only a code, as a TPM gives it for a refused command. */
export function errorResponse(responseCode: number): Uint8Array<ArrayBuffer> {
  const tag = responseCode === TPM_RC.badTag ? TPM_ST.responseCommand : TPM_ST.noSessions;
  return new ByteWriter('big').u16(tag).u32(TPM_HEADER_BYTES).u32(responseCode).bytes;
}

/** How many bytes the message has whose first bytes these are; null: too few of them to know. @throws RktError BAD_INPUT */
export function messageSize(head: Uint8Array): number | null {
  if (head.length < TPM_HEADER_BYTES) return null;
  const reader = new ByteReader(head, 'big', 'TPM message');
  reader.u16();
  const sizeBytes = reader.u32();
  if (sizeBytes < TPM_HEADER_BYTES || sizeBytes > TPM_MAX_MESSAGE_BYTES) reader.fail(`says it has ${sizeBytes} bytes, between ${TPM_HEADER_BYTES} and ${TPM_MAX_MESSAGE_BYTES} are possible`);
  return sizeBytes;
}

const MAX_ATTEMPTS = 10;

/** Sends one command and waits for its whole answer. */
export type TpmTransport = (command: Uint8Array<ArrayBuffer>) => Promise<Uint8Array>;

/** Sends a command, again where the TPM asks for that. @throws TpmResponseError, RktError BAD_INPUT, and what the transport throws */
export async function execute<T>(transport: TpmTransport, command: TpmCommand<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const response = await transport(command.bytes);
    try {
      return command.decode(response);
    } catch (error) {
      if (!mayTryAgain(error, attempt)) throw error;
    }
  }
}

/** `execute` where sending and waiting is one call. */
export function executeSync<T>(transport: (command: Uint8Array<ArrayBuffer>) => Uint8Array, command: TpmCommand<T>): T {
  for (let attempt = 1; ; attempt++) {
    const response = transport(command.bytes);
    try {
      return command.decode(response);
    } catch (error) {
      if (!mayTryAgain(error, attempt)) throw error;
    }
  }
}

function mayTryAgain(error: unknown, attempt: number): boolean {
  return error instanceof TpmResponseError && error.isTransient && attempt < MAX_ATTEMPTS;
}
