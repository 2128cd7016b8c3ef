/** Globals that runtime/sys.ts provides where the engine has none (Node has its own). */
declare class TextEncoder {
  encode(text: string): Uint8Array<ArrayBuffer>;
}
declare class TextDecoder {
  decode(bytes: Uint8Array): string;
}
