import { join } from 'node:path';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';
import { defaultStage1Path } from '../../stage0/stage1-image.ts';
import { acceleratorReport, builtFlavors, readStage1Info } from '../stage1-info.ts';

export function run({ values }: ArgumentInput, context: CommandContext): Outcome {
  const { paths, stage1, store, credentials } = context.config();
  const stage0 = [
    ...credentials,
    { rktVersion: 'v1', rktKind: 'paths', data: context.dataDir(), 'stage1-images': paths.stage1Images ?? join(context.installDir, 'dist') },
    { rktVersion: 'v1', rktKind: 'stage1', ...configuredStage1(stage1, context) },
    { rktVersion: 'v1', rktKind: 'store', keepLayers: store.keepLayers ?? false },
  ];
  const pretty = values.last(flags.prettyPrint) ?? true;
  return success({ kind: 'json', value: { stage0, stage1: stage1Report(context) }, pretty, indent: '  ' });
}

function configuredStage1(configured: { name?: string; version?: string; location?: string }, context: CommandContext): Record<string, string> {
  const info = readStage1Info(context.installDir);
  const builtIn = info === undefined ? {} : { name: info.name, version: info.version };
  return { ...builtIn, location: defaultStage1Path(context.installDir), ...configured };
}

/** What is in use: the guest's kernel, and how virtual machines are run here and why. */
function stage1Report(context: CommandContext): unknown {
  const info = readStage1Info(context.installDir);
  if (info === undefined) return { built: false };
  return { built: true, name: info.name, version: info.version, kernel: info.kernel, accelerator: acceleratorReport(info), flavors: builtFlavors(context.installDir) };
}
