/** virtio-vsock packets (virtio 1.2, section 5.10.6; linux/virtio_vsock.h). */
export const HEADER_BYTES = 44;
export const HOST_CID = 2;
export const TYPE_STREAM = 1;

export const OP_REQUEST = 1;
export const OP_RESPONSE = 2;
export const OP_RST = 3;
export const OP_SHUTDOWN = 4;
export const OP_RW = 5;
export const OP_CREDIT_UPDATE = 6;
export const OP_CREDIT_REQUEST = 7;

/** Flags of OP_SHUTDOWN: the sender of the packet will not receive, or not send, any more. */
export const SHUTDOWN_RECEIVE = 1;
export const SHUTDOWN_SEND = 2;
export const SHUTDOWN_BOTH = 3;

/** A header as the 11 32-bit words it is made of; the 64-bit addresses are the first two pairs. */
export type HeaderWords = Uint32Array;

export const WORD_SOURCE_CID = 0;
export const WORD_DESTINATION_CID = 2;
export const WORD_SOURCE_PORT = 4;
export const WORD_DESTINATION_PORT = 5;
export const WORD_LENGTH = 6;
/** Low half: type, high half: operation. */
export const WORD_TYPE_OP = 7;
export const WORD_FLAGS = 8;
export const WORD_BUF_ALLOC = 9;
export const WORD_FWD_CNT = 10;
