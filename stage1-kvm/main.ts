/** The stage1 entrypoints in one program: the name it is called by says which. (`enter` is a program of its own.) */
import '../runtime/sys.ts';
import { exit } from '../runtime/linux/process.ts';
import { monotonicMs } from '../runtime/linux/time.ts';
import { acceleratorRecord } from './accelerator/choose.ts';
import { probeKvm } from './accelerator/probe.ts';
import { attach } from './attach/client.ts';
import { leave } from './children.ts';
import { Stage1Error, STAGE1_FAILURE } from './error.ts';
import { exportApp } from './export.ts';
import { gc } from './gc.ts';
import { changeApp } from './mutable/entrypoints.ts';
import { predict } from './predict.ts';
import { print, printError } from './report.ts';
import { run } from './run.ts';
import { stop } from './stop.ts';
import { prefault } from './vmm/guest-ram.ts';

const startMs = monotonicMs();

function main(program: string, args: readonly string[]): void {
  const name = program.slice(program.lastIndexOf('/') + 1);
  switch (name) {
    case 'init': runOrReport(args); break;
    case 'attach': attach(args); break;
    case 'stop': stop(args); break;
    case 'export': exportApp(args); break;
    case 'gc': gc(args); break;
    case 'app_add': changeApp('app-add', args); break;
    case 'app_start': changeApp('app-start', args); break;
    case 'app_stop': changeApp('app-stop', args); break;
    case 'app_rm': changeApp('app-rm', args); break;
    case 'predict': predict(args); break;
    default: throw new Stage1Error(`there is no stage1 entrypoint "${name}"`);
  }
}

function runOrReport(args: readonly string[]): void {
  if (args[0] === 'probe-accel') {
    probeKvm(1);
    exit(0);
  }
  if (args[0] === 'prefault') {
    prefault(Number(args[1]), Number(args[2]));
    exit(0);
  }
  if (args[0] === 'accel-report') {
    print(1, `${JSON.stringify(acceleratorRecord())}\n`);
    exit(0);
  }
  run(args, startMs);
}

try {
  main(sys.argv[0] ?? 'init', sys.argv.slice(1));
} catch (error) {
  printError(error);
  leave(STAGE1_FAILURE);
}
