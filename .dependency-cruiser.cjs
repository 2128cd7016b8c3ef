/** The arrows between folders of DESIGN's layout. A rule per folder: what it may import, everything else is refused. */

/** @param {string} folder @param {string[]} allowed path patterns besides the folder itself and src/error.ts */
function mayImportOnly(folder, allowed, { platform }) {
  const paths = [`^${folder}/`, '^src/error\\.ts$', ...allowed];
  return {
    name: `${folder.replaceAll('/', '-')}-imports`,
    severity: 'error',
    // runtime/abi runs on Node: it generates what the runtime knows about the kernel.
    from: { path: `^${folder}/`, pathNot: '^runtime/abi/' },
    to: { pathNot: paths, dependencyTypesNot: platform ? ['core', 'npm', 'npm-dev'] : [] },
  };
}

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'] } },
    mayImportOnly('src/rootfs', [], { platform: false }),
    mayImportOnly('src/wire', [], { platform: false }),
    mayImportOnly('src/hash', [], { platform: false }),
    mayImportOnly('src/tpm', ['^src/hash/'], { platform: false }),
    mayImportOnly('src/attest', ['^src/(tpm|hash)/'], { platform: false }),
    mayImportOnly('src/schema', [], { platform: false }),
    mayImportOnly('src/linux', [], { platform: true }),
    mayImportOnly('src/store', ['^src/(linux|schema|rootfs|hash)/'], { platform: true }),
    mayImportOnly('src/image', ['^src/(store|schema|rootfs|linux|wire)/'], { platform: true }),
    mayImportOnly('src/network', ['^src/(linux|schema)/'], { platform: true }),
    mayImportOnly('src/files', ['^src/(linux|rootfs|wire)/'], { platform: true }),
    mayImportOnly('src/pod', ['^src/(linux|schema|store)/'], { platform: true }),
    mayImportOnly('src/metadata', ['^src/(pod|schema|linux)/'], { platform: true }),
    mayImportOnly('src/stage0', ['^src/(metadata|pod|image|store|rootfs|files|network|linux|schema|tpm|attest|wire)/', '^initramfs/'], { platform: true }),
    mayImportOnly('src/cli', ['^src/', '^initramfs/'], { platform: true }),
    mayImportOnly('runtime', [], { platform: false }),
    mayImportOnly('guest-agent', ['^runtime/', '^src/(wire|tpm|hash)/'], { platform: false }),
    mayImportOnly('stage1-kvm', ['^runtime/', '^src/(wire|tpm|hash)/'], { platform: false }),
    // Agent and monitor in one, on a machine that is neither's own.
    mayImportOnly('stage1-fly', ['^runtime/', '^src/(wire|tpm|hash)/', '^guest-agent/', '^stage1-kvm/'], { platform: false }),
    mayImportOnly('initramfs', ['^src/linux/'], { platform: true }),
    mayImportOnly('kernel-config', ['^initramfs/', '^scripts/'], { platform: true }),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
};
