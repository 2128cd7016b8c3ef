#!/bin/sh
# From a fresh Debian 12 with Node and npm to the output of an app inside a virtual machine.
set -eu
cd "$(dirname "$0")/.."
sh scripts/apt-install.sh run build example
echo "Installing npm packages"
npm ci --silent
npm run --silent build
exec node_modules/.bin/node scripts/quickstart.ts
