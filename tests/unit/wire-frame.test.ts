import t from 'tap';
import { encodeFrame, FrameDecoder, FRAME_MAX_PAYLOAD_BYTES } from '../../src/wire/frame.ts';
import { seededRandom } from '../helpers/random.ts';

t.test('any split of any frames gives the messages back', async (t) => {
  const random = seededRandom(1);
  for (let round = 0; round < 300; round++) {
    const messages = Array.from({ length: 1 + random.below(4) }, (_, index) => ({ type: 'ping', request: index, text: 'ü'.repeat(random.below(40)) }));
    const bytes = Buffer.concat(messages.map(encodeFrame));
    const decoder = new FrameDecoder();
    const decoded: object[] = [];
    for (let offset = 0; offset < bytes.length; ) {
      const size = 1 + random.below(20);
      decoded.push(...decoder.push(bytes.subarray(offset, offset + size)));
      offset += size;
    }
    t.strictSame(decoded, messages);
  }
});

t.test('a length above the limit and a payload that is no object are refused', async (t) => {
  const long = new Uint8Array(4);
  new DataView(long.buffer).setUint32(0, FRAME_MAX_PAYLOAD_BYTES + 1, true);
  t.throws(() => new FrameDecoder().push(long), RangeError);
  for (const payload of ['[]', '3', 'null', '{', '"x"']) {
    const bytes = Buffer.concat([Buffer.from([payload.length, 0, 0, 0]), Buffer.from(payload)]);
    t.throws(() => new FrameDecoder().push(bytes), SyntaxError, payload);
  }
});
