/** The entrypoints of the flavor without a virtual machine, in one program: the name it is called by says which. */
import '../runtime/sys.ts';
import { exit } from '../runtime/linux/process.ts';
import { attach } from '../stage1-kvm/attach/client.ts';
import { enter } from '../stage1-kvm/enter/client.ts';
import { Stage1Error, STAGE1_FAILURE } from '../stage1-kvm/error.ts';
import { printError } from '../stage1-kvm/report.ts';
import { stop as stopMonitor } from '../stage1-kvm/stop.ts';
import { exportApp } from './export.ts';
import { gc } from './gc.ts';
import { run } from './run.ts';
import { stop, STOP_MONITOR } from './stop.ts';

function main(program: string, args: readonly string[]): void {
  const name = program.slice(program.lastIndexOf('/') + 1);
  switch (name) {
    case 'init': run(args); break;
    // It talks to the agent in the pod, whatever carries the words.
    case 'enter': enter(args); break;
    case 'attach': attach(args); break;
    case 'stop': stop(args); break;
    case STOP_MONITOR: stopMonitor(args); break;
    case 'export': exportApp(args); break;
    case 'gc': gc(args); break;
    default: throw new Stage1Error(`there is no stage1 entrypoint "${name}"`);
  }
}

try {
  main(sys.argv[0] ?? 'init', sys.argv.slice(1));
} catch (error) {
  printError(error);
  exit(STAGE1_FAILURE);
}
