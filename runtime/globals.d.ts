/** Globals that runtime/sys.ts provides where the engine has none (Node has its own). */
declare class TextEncoder {
  encode(text: string): Uint8Array<ArrayBuffer>;
}
/** Of ECMAScript 2024, which the engine has. */
interface String {
  isWellFormed(): boolean;
}
declare class TextDecoder {
  decode(bytes: Uint8Array): string;
}
