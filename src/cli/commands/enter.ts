import { openPodByName, readContainerPid, requirePid, requireRunning } from '../../pod/index.ts';
import { enterPod } from '../../stage0/stage1-calls.ts';
import { chooseApp } from '../choose-app.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { inheritedEnvironment } from '../environment.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import type { Outcome } from '../reporter.ts';

const DEFAULT_COMMAND = '/bin/bash';

export function run({ values, positional }: ArgumentInput, context: CommandContext): Outcome {
  const [uuid, ...command] = positional;
  if (uuid === undefined) throw usage('expected a UUID');
  using pod = openPodByName(context.dataDir(), uuid);
  requireRunning(pod);
  const app = chooseApp(pod, values.last(flags.app), { command: 'enter', reporter: context.reporter });
  if (command.length === 0) context.reporter.note(`no command specified, assuming ${JSON.stringify(DEFAULT_COMMAND)}`);
  const pid = requirePid(pod, readContainerPid(pod));
  return enterPod(pod, { pid, app, argv: command.length === 0 ? [DEFAULT_COMMAND] : command, env: inheritedEnvironment() });
}
