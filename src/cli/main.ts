/** The program `rkt`. */
import { fileURLToPath } from 'node:url';
import { dispatch } from './dispatch.ts';

/** Node's clock starts with the process, a moment before any of our code runs. */
const startNs = process.hrtime.bigint() - BigInt(Math.round(process.uptime() * 1e9));

process.exitCode = await dispatch(process.argv.slice(2), {
  cwd: process.cwd(),
  // This file is src/cli/main.ts or dist/cli/rkt.js.
  installDir: fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, ''),
  startNs,
  uid: process.geteuid?.() ?? -1,
});
