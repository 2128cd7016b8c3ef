import { openPodByName, readPodDetails } from '../../pod/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** What rkt ends with when the apps cannot be told. */
const LIST_FAILURE_STATUS = 1;
const LEGEND = ['NAME', 'STATE'];

export function run({ values, positional }: ArgumentInput, context: CommandContext): Outcome {
  try {
    const [uuid, ...others] = positional;
    if (uuid === undefined || others.length > 0) throw usage('must provide the pod UUID');
    using pod = openPodByName(context.dataDir(), uuid);
    const { apps, problems } = readPodDetails(pod);
    const [problem] = problems;
    if (problem !== undefined) throw problem;
    const hasLegend = values.last(flags.noLegend) !== true;
    // rkt prints the end of a line even where there is no line.
    if (apps.length === 0 && !hasLegend) return success({ kind: 'lines', lines: [''] });
    return success({ kind: 'table', rows: apps.map(({ name, state }) => [name, state]), ...(hasLegend ? { legend: LEGEND } : {}) });
  } catch (error) {
    context.reporter.error(error, 'error listing apps');
    return { result: NOTHING, exitStatus: LIST_FAILURE_STATUS };
  }
}
