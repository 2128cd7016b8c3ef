/** `enter` by itself: with the monitor around it most of its time would be spent on loading that. */
import '../../runtime/sys.ts';
import { exit } from '../../runtime/linux/process.ts';
import { enter } from './client.ts';
import { STAGE1_FAILURE } from '../error.ts';
import { printError } from '../report.ts';

try {
  enter(sys.argv.slice(1));
} catch (error) {
  printError(error);
  exit(STAGE1_FAILURE);
}
