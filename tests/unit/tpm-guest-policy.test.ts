/** What a guest may do with its TPM, checked against what swtpm itself knows of its commands. */
import t from 'tap';
import { ByteReader, ByteWriter } from '../../src/tpm/bytes.ts';
import { NO_PASSWORD, tpmCommand } from '../../src/tpm/command.ts';
import { TPM_CC, type TpmCommandName } from '../../src/tpm/constants.ts';
import { createPrimary, attestationKeyTemplate, digestsOf, errorResponse, evictControl, getRandom, guestMay, HOST_PCRS, KEY_HANDLES, parsePcrExtend, pcrExtend, pcrRead, pcrReset, quote, selfTest, shutdown, startup, TPM_RC, TPM_RH, toHex } from '../../src/tpm/index.ts';
import { seededRandom } from '../helpers/random.ts';
import { startSwtpm } from '../helpers/swtpm.ts';

const EMPTY = new Uint8Array(0);
const digests = digestsOf(EMPTY);

/** A command with these handles and nothing behind them. */
function commandWith(name: TpmCommandName, ...handles: number[]): Uint8Array {
  return tpmCommand(name, { handles, authorizations: [NO_PASSWORD] }, () => undefined).bytes;
}

function codeOf(command: Uint8Array): string {
  const verdict = guestMay(command);
  return verdict.allowed ? 'allowed' : `0x${verdict.responseCode.toString(16)}`;
}

t.test('what a guest needs passes', (t) => {
  const key = createPrimary(TPM_RH.null, attestationKeyTemplate('ecc-p256'));
  for (const { name, bytes } of [selfTest(), getRandom(8), pcrRead([{ bank: 'sha256', pcrs: [0] }]), pcrExtend(11, digests), pcrExtend(13, digests), pcrExtend(8, digests), pcrReset(16), pcrReset(23), key, quote({ keyHandle: 0x80000000, qualifyingData: EMPTY, selections: [] }), shutdown('clear')]) {
    t.equal(codeOf(bytes), 'allowed', name);
  }
  t.end();
});

t.test('what would undo or forge what the host measured is refused, in the words of a TPM', (t) => {
  t.equal(codeOf(startup('clear').bytes), '0x100');
  t.equal(codeOf(startup('state').bytes), '0x100');
  for (const pcr of HOST_PCRS) {
    t.equal(codeOf(pcrExtend(pcr, digests).bytes), '0x907', `extend ${pcr}`);
    t.equal(codeOf(commandWith('PCR_Event', pcr)), '0x907', `event ${pcr}`);
    t.equal(codeOf(commandWith('EventSequenceComplete', pcr, 0x80000000)), '0x907', `sequence ${pcr}`);
  }
  for (const pcr of [0, 11, 13, 17, 22]) t.equal(codeOf(pcrReset(pcr).bytes), '0x907', `reset ${pcr}`);
  const refused: readonly TpmCommandName[] = ['Clear', 'ClearControl', 'ChangeEPS', 'ChangePPS', 'HierarchyControl', 'HierarchyChangeAuth', 'SetPrimaryPolicy', 'PCR_Allocate', 'PCR_SetAuthPolicy', 'PCR_SetAuthValue',
    'FieldUpgradeStart', 'FieldUpgradeData', 'FirmwareRead', 'PP_Commands', 'SetAlgorithmSet', 'SetCommandCodeAuditStatus', 'ClockSet', 'ClockRateAdjust', 'NV_UndefineSpaceSpecial', 'DictionaryAttackParameters', 'NV_GlobalWriteLock', 'GetCommandAuditDigest'];
  for (const name of refused) for (const hierarchy of [TPM_RH.owner, TPM_RH.lockout, TPM_RH.endorsement, TPM_RH.platform]) t.equal(codeOf(commandWith(name, hierarchy)), '0x143', name);
  t.end();
});

t.test('the platform hierarchy is refused whatever the command', (t) => {
  t.equal(codeOf(commandWith('CreatePrimary', TPM_RH.platform)), '0x185');
  t.equal(codeOf(commandWith('NV_DefineSpace', TPM_RH.platform)), '0x185');
  t.equal(codeOf(commandWith('EvictControl', TPM_RH.platform, 0x81800000)), '0x185');
  t.equal(codeOf(commandWith('NV_Certify', 0x80000000, TPM_RH.platform, 0x01c00002)), '0x285');
  t.end();
});

t.test('the keys of the state stay', (t) => {
  for (const handle of Object.values(KEY_HANDLES)) t.equal(codeOf(evictControl(handle, handle).bytes), '0x28b');
  t.equal(codeOf(evictControl(0x80000000, 0x81000001).bytes), 'allowed');
  t.end();
});

t.test('what is no command, or an unknown one', (t) => {
  const head = (tag: number, size: number, code: number): Uint8Array => new ByteWriter('big').u16(tag).u32(size).u32(code).bytes;
  t.equal(codeOf(EMPTY), '0x142');
  t.equal(codeOf(head(0x8001, 10, TPM_CC.GetTestResult).slice(0, 9)), '0x142');
  t.equal(codeOf(head(0x8001, 11, TPM_CC.GetTestResult)), '0x142', 'size that is not its own');
  t.equal(codeOf(new Uint8Array(5000)), '0x142');
  t.equal(codeOf(head(0x00c1, 10, 0x99)), '0x1e', 'TPM 1.2');
  t.equal(codeOf(head(0x8001, 10, 0x20000001)), '0x143', 'vendor command');
  t.equal(codeOf(head(0x8001, 10, 0x1ff)), '0x143');
  t.equal(codeOf(head(0x8002, 10, TPM_CC.PCR_Extend)), '0x142', 'without the PCR it extends');
  t.equal(codeOf(head(0x8001, 10, TPM_CC.GetTestResult)), 'allowed');
  t.equal(toHex(errorResponse(TPM_RC.badTag)), '00c40000000a0000001e');
  t.equal(toHex(errorResponse(TPM_RC.initialize)), '80010000000a00000100');
  t.end();
});

t.test('the number of handles of each allowed command is the one swtpm knows', async (t) => {
  const tpm = await startSwtpm(t);
  const CAP_COMMANDS = 2;
  const answer = await tpm.run(tpmCommand('GetCapability', { parameters: new ByteWriter('big').u32(CAP_COMMANDS).u32(0).u32(256).bytes }, ({ parameters }) => parameters.take(parameters.leftBytes)));
  const reader = new ByteReader(answer.subarray(5), 'big', 'commands');
  const handles = new Map<number, number>();
  for (let left = reader.u32(); left > 0; left--) {
    // TPMA_CC: the command's code below, the number of its handles in bits 25 to 27.
    const attributes = reader.u32();
    handles.set(attributes & 0xffff, (attributes >>> 25) & 7);
  }
  let known = 0;
  for (const [name, code] of Object.entries(TPM_CC) as [TpmCommandName, number][]) {
    const count = handles.get(code);
    if (count === undefined) continue;
    const enough = commandWithPlatform(name, count);
    const verdict = guestMay(enough);
    // Allowed commands are refused exactly when a handle, up to the last one, is the platform's.
    if (guestMay(commandWith(name, ...new Array<number>(count).fill(16))).allowed) {
      known++;
      t.equal(verdict.allowed, count === 0, name);
      t.equal(guestMay(commandWith(name, ...new Array<number>(count).fill(16), TPM_RH.platform)).allowed, true, `${name}: what is behind its handles is no handle`);
    }
  }
  t.ok(known > 70, `${known} commands`);
});

function commandWithPlatform(name: TpmCommandName, handles: number): Uint8Array {
  return commandWith(name, ...new Array<number>(Math.max(0, handles - 1)).fill(16), TPM_RH.platform);
}

t.test('extends that pass by are read', (t) => {
  const { bytes } = pcrExtend(13, digests);
  t.same(parsePcrExtend(bytes), { pcr: 13, digests });
  t.equal(parsePcrExtend(bytes.slice(0, -1)), null);
  t.equal(parsePcrExtend(selfTest().bytes), null);
  const random = seededRandom(5);
  for (let round = 0; round < 2000; round++) {
    const mutated = bytes.slice();
    mutated[random.below(mutated.length)] = random.below(256);
    parsePcrExtend(mutated);
    guestMay(mutated);
  }
  t.end();
});
