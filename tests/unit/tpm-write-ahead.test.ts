/** A crash between extending and writing: at every step, and after it the next start completes or refuses. */
import t from 'tap';
import { concatBytes, encodeLogHeader, encodePending, eventOf, measure, parseEventLog, parsePending, pcrExtend, digestsOf, POD_BANKS, readPcrs, recover, replay, type MeasurementFiles } from '../../src/tpm/index.ts';
import { startSwtpm } from '../helpers/swtpm.ts';

/** Files in memory that fail at the n-th writing step, before it or in the middle of it. */
function fragileFiles(crash: { step: number; torn: boolean }): MeasurementFiles & { log: Uint8Array; pending: Uint8Array | null; crash: { step: number; torn: boolean } } {
  const step = (whole: () => void, torn: () => void): void => {
    if (files.crash.step-- !== 0) return whole();
    if (files.crash.torn) torn();
    throw new Error('crash');
  };
  const files = {
    log: encodeLogHeader() as Uint8Array,
    pending: null as Uint8Array | null,
    crash,
    readPending: () => files.pending,
    readLog: () => files.log,
    logSizeBytes: () => files.log.length,
    writePending: (bytes: Uint8Array) => step(() => (files.pending = bytes), () => (files.pending = bytes.subarray(0, bytes.length - 1))),
    appendLog: (bytes: Uint8Array) => step(() => (files.log = concatBytes(files.log, bytes)), () => (files.log = concatBytes(files.log, bytes.subarray(0, bytes.length - 1)))),
    truncateLog: (sizeBytes: number) => step(() => (files.log = files.log.subarray(0, sizeBytes)), () => undefined),
    removePending: () => step(() => (files.pending = null), () => undefined),
  };
  return files;
}

const NEVER = 1000;
const event = (name: string): ReturnType<typeof eventOf> => eventOf({ kind: 'app-start', name });

/** TPM2_PCR_Extend */
const isExtend = (command: Uint8Array): boolean => command[8] === 0x01 && command[9] === 0x82;

t.test('crashes', async (t) => {
  const tpm = await startSwtpm(t);
  for (let step = 0; step < 4; step++) {
    for (const torn of [false, true]) {
      for (const beforeExtend of [false, true]) {
        await t.test(`step ${step}${torn ? ', torn' : ''}${beforeExtend ? ', and none reached the TPM' : ''}`, async (t) => {
          const started = await startSwtpm(t);
          const files = fragileFiles({ step: NEVER, torn });
          await measure({ transport: started.transport, files }, event('first'));
          files.crash.step = step;
          const dead = async (): Promise<never> => Promise.reject(new Error('crash'));
          const transport = beforeExtend ? async (command: Uint8Array<ArrayBuffer>) => (isExtend(command) ? await dead() : await started.transport(command)) : started.transport;
          const crashed = await measure({ transport, files }, event('second')).then(() => false, () => true);
          t.equal(crashed, step < 3 || beforeExtend);
          files.crash.step = NEVER;
          if (files.pending !== null) await t.rejects(measure({ transport: started.transport, files }, event('third')), { code: 'STATE' }, 'nothing goes on before it is completed');
          await recover({ transport: started.transport, files });
          t.equal(files.pending, null);
          await measure({ transport: started.transport, files }, event('third'));
          const replayed = replay(parseEventLog(files.log));
          const values = await readPcrs(started.transport, POD_BANKS.map((bank) => ({ bank, pcrs: [13] })));
          for (const bank of POD_BANKS) t.same(values.get(bank)?.get(13), replayed.get(bank)?.get(13), 'log and TPM agree');
          t.equal(await recover({ transport: started.transport, files }), 'nothing');
        });
      }
    }
  }

  await t.test('what no crash can leave is refused', async (t) => {
    const files = fragileFiles({ step: 1, torn: false });
    await t.rejects(measure({ transport: tpm.transport, files }, event('x')), { message: 'crash' });
    files.crash.step = NEVER;
    const { log } = files;
    const refused = async (change: () => void, message: RegExp): Promise<void> => {
      change();
      await t.rejects(recover({ transport: tpm.transport, files }), { code: 'STATE', message });
      files.log = log;
    };
    await refused(() => (files.log = concatBytes(log, event('y').record)), /not the one the step was begun with/);
    await refused(() => (files.log = log.subarray(1)), /not the one the step was begun with/);
    await tpm.run(pcrExtend(13, digestsOf(new Uint8Array(1))));
    await refused(() => undefined, /neither its value before the step nor after it/);
  });

  await t.test('an event in the log that the TPM has not', async (t) => {
    const started = await startSwtpm(t);
    const files = fragileFiles({ step: NEVER, torn: false });
    const x = event('x');
    files.pending = encodePending({ logSizeBytes: files.log.length, before: POD_BANKS.map((algorithm) => ({ algorithm, digest: new Uint8Array(algorithm === 'sha256' ? 32 : 48) })), event: x });
    files.log = concatBytes(files.log, x.record);
    await t.rejects(recover({ transport: started.transport, files }), { code: 'STATE', message: /holds an event that the TPM does not/ });
  });

  await t.test('banks that disagree', async (t) => {
    const started = await startSwtpm(t);
    const files = fragileFiles({ step: 1, torn: false });
    const transport = async (command: Uint8Array<ArrayBuffer>): Promise<Uint8Array> => (isExtend(command) ? await Promise.reject(new Error('crash')) : await started.transport(command));
    await t.rejects(measure({ transport, files }, event('x')), { message: 'crash' });
    await started.run(pcrExtend(13, event('x').digests.slice(0, 1)));
    files.crash.step = NEVER;
    await t.rejects(recover({ transport: started.transport, files }), { code: 'STATE', message: /banks of the TPM disagree/ });
  });
});

t.test('a failed extend is an error', async (t) => {
  const files = fragileFiles({ step: NEVER, torn: false });
  const tpm = await startSwtpm(t);
  await tpm.stop();
  await t.rejects(measure({ transport: tpm.transport, files }, event('x')));
  t.same(files.log, encodeLogHeader());
});

t.test('notes', (t) => {
  const before = POD_BANKS.map((algorithm) => ({ algorithm, digest: new Uint8Array(algorithm === 'sha256' ? 32 : 48).fill(7) }));
  const step = { logSizeBytes: 99, before, event: { pcr: 13, type: 6, data: new Uint8Array([1, 2, 3]) } };
  const note = encodePending(step);
  t.same(parsePending(note), step);
  for (let cut = 0; cut < note.length; cut++) t.equal(parsePending(note.subarray(0, cut)), null);
  for (let at = 0; at < note.length; at++) t.equal(parsePending(note.map((byte, i) => (i === at ? byte ^ 1 : byte))), null);
  t.end();
});
