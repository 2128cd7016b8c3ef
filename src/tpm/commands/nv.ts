/** NV indices: where the certificates of a TPM's keys are. */
import { RktError } from '../../error.ts';
import { ByteReader, ByteWriter, concatBytes } from '../bytes.ts';
import { execute, NO_PASSWORD, tpmCommand, type TpmCommand, type TpmTransport } from '../command.ts';

/** TPM2_PT_NV_BUFFER_MAX of swtpm. */
const NV_PIECE_BYTES = 1024;
/** TPM2_PT_NV_INDEX_MAX of swtpm. */
const NV_MAX_BYTES = 2048;

interface NvPublic {
  index: number;
  attributes: number;
  sizeBytes: number;
}

function nvReadPublic(index: number): TpmCommand<NvPublic> {
  return tpmCommand('NV_ReadPublic', { handles: [index] }, ({ parameters: answer }) => {
    const area = new ByteReader(answer.sized16(), 'big', 'NV public area');
    answer.sized16();
    const found = area.u32();
    area.u16();
    const attributes = area.u32();
    area.sized16();
    const sizeBytes = area.u16();
    area.expectEnd();
    return { index: found, attributes, sizeBytes };
  });
}

export function nvRead(index: number, piece: { offsetBytes: number; sizeBytes: number }): TpmCommand<Uint8Array> {
  const parameters = new ByteWriter('big').u16(piece.sizeBytes).u16(piece.offsetBytes).bytes;
  return tpmCommand('NV_Read', { handles: [index, index], authorizations: [NO_PASSWORD], parameters }, ({ parameters: answer }) => answer.sized16());
}

/** The whole content. @throws TpmResponseError when there is no such index, RktError LIMIT */
export async function readNvIndex(transport: TpmTransport, index: number): Promise<Uint8Array> {
  const { sizeBytes } = await execute(transport, nvReadPublic(index));
  if (sizeBytes > NV_MAX_BYTES) throw new RktError('LIMIT', `NV index 0x${index.toString(16)} has ${sizeBytes} bytes, at most ${NV_MAX_BYTES} are read`);
  const pieces: Uint8Array[] = [];
  for (let offsetBytes = 0; offsetBytes < sizeBytes; offsetBytes += NV_PIECE_BYTES) {
    pieces.push(await execute(transport, nvRead(index, { offsetBytes, sizeBytes: Math.min(NV_PIECE_BYTES, sizeBytes - offsetBytes) })));
  }
  return concatBytes(...pieces);
}
