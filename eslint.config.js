import tseslint from 'typescript-eslint';

/** The engine of the runtime programs starts with few intrinsics; what it lacks must not type-check its way in. */
const RUNTIME_ABSENT_GLOBALS = ['Date', 'RegExp', 'Proxy', 'WeakRef', 'FinalizationRegistry', 'Reflect', 'Intl', 'console', 'setTimeout', 'setInterval', 'eval', 'Buffer', 'process', 'structuredClone', 'queueMicrotask', 'URL'];

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', 'bench/out/**', '.tap/**', '**/*.gen.ts'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommended],
    languageOptions: { parserOptions: { projectService: false } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'none' }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports', disallowTypeAnnotations: false }],
      '@typescript-eslint/no-empty-function': 'off',
      eqeqeq: ['error', 'always'],
      'no-constant-condition': ['error', { checkLoops: false }],
      'no-control-regex': 'off',
      'prefer-const': 'error',
    },
  },
  { files: ['src/linux/**/*.ts'], rules: { '@typescript-eslint/no-explicit-any': 'off' } },
  {
    files: ['runtime/**/*.ts', 'guest-agent/**/*.ts', 'stage1-kvm/**/*.ts', 'src/wire/**/*.ts', 'src/tpm/**/*.ts', 'src/hash/**/*.ts'],
    // Runs on Node: it generates what the runtime knows about the kernel.
    ignores: ['runtime/abi/**'],
    rules: {
      'no-restricted-globals': ['error', ...RUNTIME_ABSENT_GLOBALS.map((name) => ({ name, message: 'not in the runtime engine (see runtime/)' }))],
      'no-restricted-syntax': ['error', { selector: 'Literal[regex]', message: 'the runtime engine has no regular expressions' }],
    },
  },
);
