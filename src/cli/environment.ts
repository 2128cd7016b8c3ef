/** The environment of this process without what is between rkt and the programs it starts. */

const OWN_VARIABLES: readonly string[] = ['RKT_LOCK_FD', 'RKT_START_NS'];

export function inheritedEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !OWN_VARIABLES.includes(name)) environment[name] = value;
  }
  return environment;
}
