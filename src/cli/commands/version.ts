import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';
import { kernelText, readStage1Info } from '../stage1-info.ts';
import { APPC_VERSION, RKT_VERSION } from '../version.ts';

/** GOARCH of what Node calls otherwise. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64' };

export function run(_input: ArgumentInput, context: CommandContext): Outcome {
  const info = readStage1Info(context.installDir);
  const lines = [
    `rkt Version: ${RKT_VERSION}`,
    `appc Version: ${APPC_VERSION}`,
    `Node Version: ${process.version}`,
    `Node OS/Arch: ${process.platform}/${ARCHITECTURES[process.arch] ?? process.arch}`,
    'Features: +TPM -SDJOURNAL',
    `Guest Kernel: ${info === undefined ? 'none (stage1 is not built)' : kernelText(info.kernel)}`,
  ];
  return success({ kind: 'lines', lines });
}
