/** TPM commands against swtpm, with tpm2-tools as the second opinion. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { attestationKeyTemplate, concatBytes, createHostKey, createPrimary, digestsOf, endorsePodKey, flushContext, fromHex, getPcrBanks, getProperties, getRandom, KEY_HANDLES, nameOf, nvRead, parseAttestedQuote, parsePublicArea, pcrExtend, pcrRead, pcrReset, podKeyName, quote, QUOTED_PCRS, quotePod, readPcrs, readPublic, requirePodBanks, selfTest, sha256, shutdown, startup, toHex, TPM_RC, TPM_RH, TpmResponseError, QUOTE_SELECTIONS, type PcrSelection } from '../../src/tpm/index.ts';
import { responseFrame } from '../helpers/tpm-responses.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { startSwtpm } from '../helpers/swtpm.ts';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

async function responseCodeOf(work: Promise<unknown>): Promise<number> {
  return await work.then(() => TPM_RC.success, (error: unknown) => (error instanceof TpmResponseError ? error.responseCode : -1));
}

t.test('a TPM as a pod gets it', async (t) => {
  const tpm = await startSwtpm(t);

  await t.test('has been started, and has two banks', async (t) => {
    await tpm.run(selfTest());
    await t.rejects(tpm.run(startup('clear')), { message: 'TPM2_Startup: TPM_RC_INITIALIZE (0x100)' });
    t.strictSame((await tpm.run(getPcrBanks())).map(({ bank, pcrs }) => [bank, pcrs.length]), [['sha256', 24], ['sha384', 24]]);
    const banks = await tpm.run(getPcrBanks());
    requirePodBanks(banks);
    const [first, second] = banks as [PcrSelection, PcrSelection];
    for (const others of [[], [first], [first, { ...second, pcrs: [0, 1] }], [...banks, { ...first, bank: 'sha1' as const }]]) t.throws(() => requirePodBanks(others), { code: 'UNSUPPORTED' });
    t.equal((await tpm.run(getRandom(16))).length, 16);
    const MANUFACTURER = 0x105;
    t.equal((await tpm.run(getProperties(MANUFACTURER, 1))).get(MANUFACTURER), 0x49424d00, 'IBM');
  });

  await t.test('extends both banks at once, as tpm2_pcrread sees too', async (t) => {
    await tpm.run(pcrExtend(13, digestsOf(text('event'))));
    const values = await readPcrs(tpm.transport, QUOTE_SELECTIONS);
    for (const bank of ['sha256', 'sha384'] as const) {
      const hash = (data: Uint8Array): Buffer => createHash(bank).update(data).digest();
      t.same(values.get(bank)?.get(13), new Uint8Array(hash(Buffer.concat([Buffer.alloc(hash(text('')).length), hash(text('event'))]))));
      t.equal(values.get(bank)?.size, 13, 'more than fit one answer');
      const { stdout } = await tpm.tool('tpm2_pcrread', [`${bank}:13`]);
      t.match(stdout.toLowerCase(), toHex(values.get(bank)!.get(13)!));
    }
  });

  await t.test('reads values of one moment', async (t) => {
    let reads = 0;
    const values = await readPcrs(async (command) => {
      const answer = await tpm.transport(command);
      // Between the first pieces of the answer, twice.
      if (reads++ < 2) await tpm.run(pcrExtend(0, digestsOf(text('meanwhile'))));
      return answer;
    }, QUOTE_SELECTIONS);
    t.strictSame(values, await readPcrs(tpm.transport, QUOTE_SELECTIONS));
    await t.rejects(readPcrs(async (command) => {
      await tpm.run(pcrExtend(0, digestsOf(text('always'))));
      return await tpm.transport(command);
    }, QUOTE_SELECTIONS), { code: 'BUSY' });
  });

  await t.test('resets only what the locality may', async (t) => {
    await tpm.run(pcrExtend(16, digestsOf(text('x'))));
    await tpm.run(pcrReset(16));
    t.same((await readPcrs(tpm.transport, [{ bank: 'sha256', pcrs: [16] }])).get('sha256')?.get(16), new Uint8Array(32));
    t.equal(await responseCodeOf(tpm.run(pcrReset(13))), TPM_RC.locality);
  });

  await t.test('quotes no PCR that a guest could reset, or that nobody could extend', async (t) => {
    for (const pcr of QUOTED_PCRS) {
      t.equal(await responseCodeOf(tpm.run(pcrReset(pcr))), TPM_RC.locality, `reset ${pcr}`);
      t.equal(await responseCodeOf(tpm.run(pcrExtend(pcr, digestsOf(text('x'))))), TPM_RC.success, `extend ${pcr}`);
    }
  });

  await t.test("keeps the host's key and lets it speak about a pod's", async (t) => {
    const publicArea = await createHostKey(tpm.transport);
    const known = await tpm.run(readPublic(KEY_HANDLES.hostKey));
    t.same(known.publicArea, publicArea);
    t.same(nameOf(publicArea, 'sha256', sha256), known.name);
    const name = await podKeyName(tpm.transport);
    const statement = parseAttestedQuote((await endorsePodKey(tpm.transport, name, 'uuid')).attest);
    t.same(statement.selections, []);
    t.equal(toHex(statement.extraData), createHash('sha256').update(`{"podKeyName":"${toHex(name)}","statement":"rkt pod key","uuid":"uuid"}`).digest('hex'));
  });

  await t.test("derives the same pod key again, and a new one after each start", async (t) => {
    const first = await quotePod(tpm.transport, new Uint8Array(32));
    t.same(first.keyName, await podKeyName(tpm.transport));
    t.same(nameOf(first.keyPublic, 'sha256', sha256), first.keyName);
    const other = await startSwtpm(t);
    t.notSame(await podKeyName(other.transport), first.keyName);
  });

  await t.test('quotes what tpm2_checkquote accepts', async (t) => {
    const directory = scratchDir(t, 'quote');
    const binding = sha256(text('nonce and data'));
    for (const type of ['ecc-p256', 'rsa-2048'] as const) {
      const key = await tpm.run(createPrimary(TPM_RH.endorsement, attestationKeyTemplate(type)));
      const { attest, signature } = await tpm.run(quote({ keyHandle: key.handle, qualifyingData: binding, selections: QUOTE_SELECTIONS }));
      await tpm.run(flushContext(key.handle));
      t.equal(parsePublicArea(key.publicArea).key.type, type.slice(0, 3));
      const file = (name: string, bytes: Uint8Array): string => {
        writeFileSync(join(directory, name), bytes);
        return join(directory, name);
      };
      // tpm2_checkquote takes TPM2B_PUBLIC.
      const key2b = concatBytes(new Uint8Array([key.publicArea.length >> 8, key.publicArea.length & 255]), key.publicArea);
      const check = (nonce: Uint8Array): Promise<{ status: number | null; stderr: string }> =>
        tpm.tool('tpm2_checkquote', ['-u', file('key', key2b), '-m', file('attest', attest), '-s', file('signature', signature), '-q', toHex(nonce)]);
      const { status, stderr } = await check(binding);
      t.equal(status, 0, stderr);
      t.not((await check(sha256(text('another nonce')))).status, 0);
    }
  });

  await t.test('refuses in words', async (t) => {
    await t.rejects(tpm.run(nvRead(0x01c00002, { offsetBytes: 0, sizeBytes: 1 })), { message: 'TPM2_NV_Read: TPM_RC_HANDLE (0x18b), handle 1' });
    await t.rejects(tpm.run(quote({ keyHandle: TPM_RH.owner, qualifyingData: new Uint8Array(0), selections: [] })), { message: /^TPM2_Quote: TPM_RC_VALUE \(0x184\), handle 1$/ });
    await t.rejects(readPcrs(tpm.transport, [{ bank: 'sha1', pcrs: [0] }]), { code: 'IO', message: 'the TPM has no PCR 0 in bank sha1' });
    t.equal(await responseCodeOf(tpm.run(pcrExtend(20, digestsOf(text('x'))))), TPM_RC.locality);
  });
  await tpm.run(shutdown('clear'));
});

t.test('answers that no TPM gives', (t) => {
  const read = pcrRead([{ bank: 'sha256', pcrs: [0] }]);
  const answer = '00000001' + '00000001000b03010000' + '00000001' + '0020' + 'aa'.repeat(32);
  t.same(read.decode(responseFrame(answer)).values.get('sha256')?.get(0), fromHex('aa'.repeat(32), 'x'));
  const broken: Record<string, Uint8Array> = {
    'is empty': new Uint8Array(0),
    'is cut short': responseFrame(answer).slice(0, -1),
    'has a byte too many': responseFrame(`${answer}00`),
    'says another size': responseFrame(answer, { size: 5 }),
    'has sessions that were not asked for': responseFrame(answer, { tag: 0x8002 }),
    'has fewer digests than PCRs': responseFrame(answer.replace('030100', '030300')),
    'has more digests than PCRs': responseFrame('00000001' + '00000001000b03000000' + '00000001' + '0020' + 'aa'.repeat(32)),
    'has a digest of another size': responseFrame('00000001' + '00000001000b03010000' + '00000001' + '0014' + 'aa'.repeat(20)),
    'names an unknown bank': responseFrame(answer.replace('000b03', '00ff03')),
    'counts four thousand million banks': responseFrame('00000001ffffffff'),
    'has an error with a body': responseFrame(answer, { code: 0x101 }),
  };
  for (const [what, bytes] of Object.entries(broken)) t.throws(() => read.decode(bytes), { name: 'RktError', code: 'BAD_INPUT' }, what);
  t.end();
});
