import { RktError } from '../../error.ts';
import { openPodByName, readPid, requireRunning } from '../../pod/index.ts';
import { ATTACH_ENDPOINTS, attachPod } from '../../stage0/attach.ts';
import type { AttachEndpoint, AttachRequest } from '../../stage0/attach.ts';
import { chooseApp } from '../choose-app.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { inheritedEnvironment } from '../environment.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import type { Outcome } from '../reporter.ts';

export function run({ values, positional }: ArgumentInput, context: CommandContext): Outcome {
  const [uuid] = positional;
  if (uuid === undefined || positional.length > 1) throw usage('expected one UUID');
  const action = attachAction(values.last(flags.attachMode) ?? 'auto');
  using pod = openPodByName(context.dataDir(), uuid);
  requireRunning(pod);
  const app = chooseApp(pod, values.last(flags.app), { command: 'attach', reporter: context.reporter });
  const pid = readPid(pod);
  if (pid === undefined) throw new RktError('STATE', `unable to determine the pid for pod "${pod.uuid}"`);
  return attachPod(pod, { pid, app, action, detachKeys: values.last(flags.detachKeys), debug: context.debug, env: inheritedEnvironment() });
}

function attachAction(mode: string): AttachRequest['action'] {
  if (mode === 'list') return 'list';
  if (mode === 'auto' || mode === '') return 'auto';
  const endpoints = mode.split(',').flatMap((name): AttachEndpoint[] => {
    if (name === 'tty') return ['tty-in', 'tty-out'];
    const found = ATTACH_ENDPOINTS.find((candidate) => candidate === name);
    if (found === undefined) throw usage(`invalid attach mode: unknown endpoint ${JSON.stringify(name)}`);
    return [found];
  });
  const terminals = endpoints.filter((name) => name.startsWith('tty'));
  if (terminals.length > 0 && terminals.length < endpoints.length) throw usage(`invalid attach mode: incompatible endpoints ${JSON.stringify(mode)}, cannot simultaneously attach TTY and streams`);
  return endpoints;
}
