/** `rkt attest` as tests use it: what it prints, as values. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEvidence, trusteeEvidence, type Measurement } from '../../src/attest/index.ts';
import { fromHex, quoteBinding, toHex } from '../../src/tpm/index.ts';
import { eventually, readyPod, type Host, type RunResult } from './rkt.ts';
import { runTool } from './swtpm.ts';

/** Hexadecimal, by bank and number. */
export type Registers = Record<string, Record<string, string>>;

export interface LoggedEvent {
  number: number;
  pcr: number;
  measurement?: Measurement;
}

export interface Quoted {
  /** Path of the document. */
  evidence: string;
  nonceHex: string;
}

export interface Finding {
  check: string;
  text: string;
  /** Number of the event. */
  event?: number;
}

export interface Attestation {
  /** Path of a file of the test. */
  file(name: string): string;
  podFile(uuid: string, name: string): string;
  /** Standard output of a command that must not fail. */
  succeed(args: readonly string[]): Promise<Buffer>;
  /** Runs a pod until it is ready. */
  start(args: readonly string[]): Promise<{ uuid: string; ended: Promise<RunResult> }>;
  /** Path of the reference for a pod that is run with these arguments. */
  predict(name: string, args: readonly string[]): Promise<string>;
  pcrs(uuid: string): Promise<{ source: string; pcrs: Registers }>;
  events(uuid: string): Promise<LoggedEvent[]>;
  quote(uuid: string, dataHex?: string): Promise<Quoted>;
  /** What is wrong according to `verify`; its exit status must agree. */
  failures(quoted: Quoted, args: readonly string[]): Promise<Finding[]>;
}

export function attestationOf(host: Host): Attestation {
  let count = 0;
  const file = (name: string): string => join(host.workDir, name);
  const succeed = async (args: readonly string[]): Promise<Buffer> => {
    const { stdout, stderr, status } = await host.rkt(args);
    if (status !== 0) throw new Error(`rkt ${args.join(' ')}: exit status ${status}: ${stderr}`);
    return stdout;
  };
  const json = async (args: readonly string[]): Promise<unknown> => JSON.parse((await succeed(args)).toString());
  return {
    file,
    podFile: (uuid, name) => join(host.dataDir, 'pods/run', uuid, name),
    succeed,
    async start(args) {
      const uuidFile = file(`uuid-${count++}`);
      const { ended } = host.start(['run', `--uuid-file-save=${uuidFile}`, ...args]);
      let early: RunResult | undefined;
      void ended.then((result) => (early = result));
      const uuid = await eventually('the pod is ready', () => {
        if (early !== undefined) throw new Error(`the pod has ended with ${early.status}: ${early.stderr}`);
        return readyPod(host, uuidFile);
      });
      return { uuid, ended };
    },
    async predict(name, args) {
      writeFileSync(file(`${name}.reference.json`), await succeed(['attest', 'predict', ...args]));
      return file(`${name}.reference.json`);
    },
    pcrs: async (uuid) => (await json(['attest', 'pcrs', '--format=json', uuid])) as { source: string; pcrs: Registers },
    events: async (uuid) => (await json(['attest', 'log', '--format=json', uuid])) as LoggedEvent[],
    async quote(uuid, dataHex = '') {
      const nonceHex = createHash('sha256').update(String(count++)).digest('hex');
      const evidence = file(`evidence-${nonceHex.slice(0, 8)}.json`);
      writeFileSync(evidence, await succeed(['attest', 'quote', `--nonce=${nonceHex}`, `--data=${dataHex}`, uuid]));
      return { evidence, nonceHex };
    },
    async failures({ evidence, nonceHex }, args) {
      const { stdout, stderr, status } = await host.rkt(['attest', 'verify', evidence, `--nonce=${nonceHex}`, '--format=json', ...args]);
      if (status !== 0 && status !== 1) throw new Error(`exit status ${status}: ${stderr}`);
      const { ok, checks } = JSON.parse(stdout.toString()) as { ok: boolean; checks: { name: string; ok: boolean; findings: Omit<Finding, 'check'>[] }[] };
      if (ok !== (status === 0)) throw new Error(`exit status ${status}, but the verdict is ${String(ok)}`);
      return checks.filter((check) => !check.ok).flatMap(({ name, findings }) => findings.map((finding) => ({ check: name, ...finding })));
    },
  };
}

/** What tpm2_checkquote complains about. */
export function checkquote({ evidence, nonceHex }: Quoted, uuid: string, dataHex: string): string {
  const parsed = parseEvidence(readFileSync(evidence, 'utf8'));
  const file = (name: string, content: string | Uint8Array): string => {
    writeFileSync(`${evidence}.${name}`, content);
    return `${evidence}.${name}`;
  };
  const key = file('pem', `-----BEGIN PUBLIC KEY-----\n${trusteeEvidence(parsed).ak_public}\n-----END PUBLIC KEY-----\n`);
  const binding = toHex(quoteBinding(fromHex(nonceHex, 'nonce'), { uuid, dataHex }));
  const { status, stderr } = runTool('tpm2_checkquote', ['-u', key, '-m', file('attest', parsed.quote.attest), '-s', file('signature', parsed.quote.signature), '-q', binding]);
  return status === 0 ? stderr : `exit status ${status}: ${stderr}`;
}

/** The registers that tpm2_eventlog prints at the end. Throws unless it reads the log without a word. */
export function eventlogPcrs(log: string): Registers {
  const { status, stdout, stderr } = runTool('tpm2_eventlog', [log]);
  if (status !== 0 || stderr !== '') throw new Error(`tpm2_eventlog: exit status ${status}: ${stderr}`);
  const registers: Registers = {};
  let bank: Record<string, string> = {};
  for (const line of stdout.slice(stdout.indexOf('\npcrs:')).split('\n')) {
    const [, name] = /^ {2}(\w+):$/.exec(line) ?? [];
    if (name !== undefined) registers[name] = bank = {};
    const [, pcr, value] = /^ +(\d+) *: 0x([0-9a-f]+)$/.exec(line) ?? [];
    if (pcr !== undefined && value !== undefined) bank[pcr] = value;
  }
  return registers;
}
