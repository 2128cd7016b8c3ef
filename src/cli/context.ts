/** What every command gets besides its own arguments. */
import { existsSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { readConfig } from '../stage0/config.ts';
import type { Config } from '../stage0/config.ts';
import type { CommandSet } from './command.ts';
import type { FlagValues } from './flags/flag.ts';
import { SECURE } from './flags/insecure.ts';
import type { InsecureOptions } from './flags/insecure.ts';
import * as flags from './flags/table.ts';
import { userConfigDir as ownConfigDir, userDataDir } from './own-directories.ts';
import type { Reporter } from './reporter.ts';

export interface CommandContext {
  readonly commands: CommandSet;
  readonly reporter: Reporter;
  readonly debug: boolean;
  readonly insecure: InsecureOptions;
  readonly localConfigDir: string;
  /** Directories of configuration, lowest precedence first: system, local, user. */
  readonly configDirs: readonly string[];
  readonly trustKeysFromHttps: boolean;
  /** Flags of rkt itself, before the command and behind it. */
  readonly globals: FlagValues;
  readonly cwd: string;
  /** Where rkt is installed: the directory that holds `dist/`. */
  readonly installDir: string;
  /** CLOCK_MONOTONIC nanoseconds when the process was started. */
  readonly startNs: bigint;
  /** Effective user ID. */
  readonly uid: number;
  /** Read at the first call. */
  config(): Config;
  /** Absolute, without symbolic links. Flag before configuration before default. */
  dataDir(): string;
}

export interface Surroundings {
  cwd: string;
  installDir: string;
  startNs: bigint;
  /** Effective user ID. */
  uid: number;
}

const DEFAULT_DATA_DIR = '/var/lib/rkt';
const DEFAULT_SYSTEM_CONFIG_DIR = '/usr/lib/rkt';
const DEFAULT_LOCAL_CONFIG_DIR = '/etc/rkt';

export function createContext(globals: FlagValues, reporter: Reporter, surroundings: Surroundings & { commands: CommandSet }): CommandContext {
  const { cwd, uid } = surroundings;
  const absolute = (path: string): string => resolve(cwd, path);
  const localConfigDir = absolute(globals.last(flags.localConfig) ?? DEFAULT_LOCAL_CONFIG_DIR);
  const userConfigDir = globals.last(flags.userConfig) ?? (uid === 0 ? undefined : ownConfigDir());
  const layers = [absolute(globals.last(flags.systemConfig) ?? DEFAULT_SYSTEM_CONFIG_DIR), localConfigDir, ...(userConfigDir === undefined ? [] : [absolute(userConfigDir)])];
  let config: Config | undefined;
  let dataDir: string | undefined;
  const readOnce = (): Config => (config ??= readConfig(layers));
  return {
    ...surroundings,
    reporter,
    globals,
    debug: globals.last(flags.debug) ?? false,
    insecure: globals.last(flags.insecure) ?? SECURE,
    localConfigDir,
    configDirs: layers,
    trustKeysFromHttps: globals.last(flags.trustKeysFromHttps) ?? false,
    config: readOnce,
    dataDir: () => (dataDir ??= withoutLinks(absolute(globals.last(flags.dir) ?? readOnce().paths.data ?? (uid === 0 ? DEFAULT_DATA_DIR : userDataDir())))),
  };
}

function withoutLinks(path: string): string {
  return existsSync(path) ? realpathSync(path) : path;
}
