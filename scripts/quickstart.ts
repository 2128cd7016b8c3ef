/** Last step of `npm run quickstart`: makes an image from Debian's busybox and runs it, as a person would. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { makeOciLayout } from '../tests/helpers/make-image.ts';

const ROOT = join(import.meta.dirname, '..');
const IMAGE = join(ROOT, 'dist/example/busybox.oci');

if (!existsSync(IMAGE)) makeOciLayout(IMAGE);
const script = 'echo "Hello from $(uname -sr), process $$ of a virtual machine named $(hostname)"';
const args = ['run', '--net=none', '--timing', `./${relative(ROOT, IMAGE)}`, '--exec', '/bin/sh', '--', '-c', script];

console.log(`\n$ bin/rkt ${args.map((argument) => (/^[\w./=-]+$/.test(argument) ? argument : `'${argument}'`)).join(' ')}`);
const { status } = spawnSync(join(ROOT, 'bin/rkt'), args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
console.log(`\nexit status ${status}`);
console.log('Next: `bin/rkt list`, `bin/rkt help`, `npm run build:kernel` for a kernel that boots several times faster.');
process.exitCode = status ?? 1;
