/** A verdict for people. */
import { describeEntry, type PodLog } from '../tpm/pod-log.ts';
import type { CheckName, Finding, Verdict } from './verify.ts';

const TITLES: Readonly<Record<CheckName, string>> = {
  'evidence': 'Evidence',
  'host': 'Host',
  'pod-key': "Pod's key",
  'quote': 'Quote',
  'freshness': 'Freshness',
  'registers': 'Registers',
  'log': 'Event log',
  'reference': 'Reference',
  'policy': 'Policy',
};

/** One line a check, below it what is wrong, with the events it is about. */
export function verdictText({ ok, checks, claims }: Verdict): string {
  const width = Math.max(...Object.values(TITLES).map(({ length }) => length));
  const lines = checks.flatMap((check) => {
    const head = `${check.ok ? 'ok  ' : 'FAIL'}  ${TITLES[check.name].padEnd(width)}  `;
    return check.findings.map((finding, i) => `${i === 0 ? head : ' '.repeat(head.length)}${findingText(finding, claims?.log ?? null)}`);
  });
  return `${lines.join('\n')}\n\n${ok ? 'The pod is the one that was expected.' : 'The pod is NOT shown to be the one that was expected.'}\n`;
}

function findingText({ text, event }: Finding, log: PodLog | null): string {
  const entry = event === null ? undefined : log?.entries[event];
  return entry === undefined ? text : `event ${entry.index + 1} (PCR ${entry.event.pcr}): ${text}${text.includes(describeEntry(entry)) ? '' : ` — ${describeEntry(entry)}`}`;
}
