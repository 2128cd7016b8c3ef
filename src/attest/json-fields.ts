/** Reading JSON documents field by field; every failure names document and field. */
import { RktError } from '../error.ts';
import { fromHex } from '../tpm/bytes.ts';
import { isJsonObject, type Json, type JsonObject } from '../tpm/canonical-json.ts';

export class JsonFields {
  readonly #object: JsonObject;
  readonly #origin: string;
  readonly #path: string;

  constructor(value: unknown, origin: string, path = '') {
    if (!isJsonObject(value)) throw new RktError('BAD_INPUT', `${place(origin, path)}: expected an object`);
    this.#object = value;
    this.#origin = origin;
    this.#path = path;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#object, name);
  }

  /** Absent fields are undefined. */
  value(name: string): Json | undefined {
    return this.has(name) ? this.#object[name] : undefined;
  }

  get names(): string[] {
    return Object.keys(this.#object);
  }

  object(name: string): JsonFields {
    return new JsonFields(this.value(name), this.#origin, this.#pathOf(name));
  }

  text(name: string): string {
    const value = this.value(name);
    return typeof value === 'string' ? value : this.fail(name, 'expected a string');
  }

  /** @param maxBytes above which nothing is decoded */
  bytes(name: string, maxBytes: number): Uint8Array {
    const text = this.text(name);
    if (text.length > 2 * maxBytes) throw new RktError('LIMIT', `${place(this.#origin, this.#pathOf(name))}: more than ${maxBytes} bytes`);
    return fromHex(text, place(this.#origin, this.#pathOf(name)));
  }

  boolean(name: string): boolean {
    const value = this.value(name);
    return typeof value === 'boolean' ? value : this.fail(name, 'expected true or false');
  }

  list(name: string): readonly Json[] {
    const value = this.value(name);
    return Array.isArray(value) ? (value as readonly Json[]) : this.fail(name, 'expected a list');
  }

  texts(name: string): string[] {
    return this.list(name).map((item) => (typeof item === 'string' ? item : this.fail(name, 'expected a list of strings')));
  }

  oneOf<const T extends string>(name: string, values: readonly T[]): T {
    const text = this.text(name);
    return values.find((candidate) => candidate === text) ?? this.fail(name, `expected one of ${values.join(', ')}`);
  }

  /** @throws RktError BAD_INPUT unless the document says it is of this format and version */
  expectFormat(format: string, version: number): void {
    if (this.value('format') !== format) this.fail('format', `expected "${format}"`);
    if (this.value('formatVersion') !== version) this.fail('formatVersion', `expected ${version}`);
  }

  /** A document that is obeyed must not hold what is not understood. */
  allowOnly(names: readonly string[]): void {
    for (const name of this.names) if (!names.includes(name)) this.fail(name, `unknown field, expected ${names.join(', ')}`);
  }

  fail(name: string, message: string): never {
    throw new RktError('BAD_INPUT', `${place(this.#origin, this.#pathOf(name))}: ${message}`);
  }

  #pathOf(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }
}

function place(origin: string, path: string): string {
  return path === '' ? origin : `${origin}: ${path}`;
}

/** Text is parsed first. @throws RktError BAD_INPUT */
export function jsonDocument(document: unknown, origin: string): JsonFields {
  if (typeof document !== 'string') return new JsonFields(document, origin);
  try {
    return new JsonFields(JSON.parse(document), origin);
  } catch (cause) {
    if (cause instanceof RktError) throw cause;
    throw new RktError('BAD_INPUT', `${origin}: not valid JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
