/** SHA-256 of a whole buffer: 32 bytes. Injected, because no platform module is imported here. */
export type Sha256 = (data: Uint8Array) => Uint8Array;
