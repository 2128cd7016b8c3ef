/** `--tpm=host`: events of pods in the TPM of the machine. A swtpm stands in for that TPM; no machine's own one is touched. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { extendHostTpm, measureIntoHostTpm } from '../../src/stage0/host-tpm.ts';
import { getPcrBanks, manifestDigest, measuredPodManifest, measurementOf, parseEventLog, readPcrs, replay, toHex, execute } from '../../src/tpm/index.ts';
import { samplePod, SAMPLE_UUID } from '../helpers/sample-pod.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { runTool, startSwtpm } from '../helpers/swtpm.ts';

const { manifest } = samplePod().host;

t.test('one event a pod, in all banks and in the log', async (t) => {
  const dataDir = scratchDir(t, 'host-tpm');
  const tpm = await startSwtpm(t);
  const uuids = [SAMPLE_UUID, SAMPLE_UUID.replace('8', '9')];
  for (const uuid of uuids) await extendHostTpm({ dataDir, uuid, manifest: JSON.stringify(manifest) }, tpm.transport);
  const path = join(dataDir, 'tpm/host-eventlog');
  const log = parseEventLog(readFileSync(path));
  t.strictSame(log.events.map((event) => measurementOf(event)), uuids.map((uuid) => ({ kind: 'pod', uuid, manifestSha256: manifestDigest(measuredPodManifest(manifest)) })));
  const banks = (await execute(tpm.transport, getPcrBanks())).map(({ bank }) => bank);
  t.strictSame(log.algorithms, banks, 'no bank is left out');
  const values = await readPcrs(tpm.transport, [{ bank: 'sha256', pcrs: [15] }]);
  t.equal(toHex(replay(log).get('sha256')!.get(15)!), toHex(values.get('sha256')!.get(15)!), 'the log gives the register');
  const judge = runTool('tpm2_eventlog', [path]);
  t.equal(judge.status, 0);
  t.equal(judge.stderr, '');
});

t.test('a TPM that refuses keeps the pod from running', async (t) => {
  const dataDir = scratchDir(t, 'host-tpm');
  const tpm = await startSwtpm(t);
  const EXTEND = 0x182;
  const refusing: typeof tpm.transport = (command) =>
    new DataView(command.buffer).getUint32(6) === EXTEND ? Promise.resolve(new Uint8Array([0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1])) : tpm.transport(command);
  await t.rejects(extendHostTpm({ dataDir, uuid: SAMPLE_UUID, manifest: JSON.stringify(manifest) }, refusing), { message: /TPM2_PCR_Extend/ });
  t.strictSame(parseEventLog(readFileSync(join(dataDir, 'tpm/host-eventlog'))).events, [], 'nothing is said that was not extended');
});

t.test('a machine without', async (t) => {
  const event = { dataDir: scratchDir(t, 'host-tpm'), uuid: SAMPLE_UUID, manifest: JSON.stringify(manifest) };
  await t.rejects(measureIntoHostTpm(event, '/dev/tpm-that-is-not-there'), { code: 'MISSING_DEPENDENCY', message: /this host has no TPM/, hint: /--tpm=on/ });
});
