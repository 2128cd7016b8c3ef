/** `--net=NAME[:ARGS][,…]` */

export interface NetworkChoice {
  name: string;
  /** As given behind the colon, `k=v;k2=v2`. */
  args?: string;
}

const WITHOUT_ARGUMENTS: readonly string[] = ['all', 'host', 'none', 'default-restricted'];

export function networks(value: string): NetworkChoice[] {
  return value.split(',').map((part) => {
    const colon = part.indexOf(':');
    const name = colon === -1 ? part : part.slice(0, colon);
    if (name === '') throw new Error('netname must not be empty');
    if (colon === -1) return { name };
    const args = part.slice(colon + 1);
    if (WITHOUT_ARGUMENTS.includes(name)) throw new Error(`arguments are not supported by special netname ${JSON.stringify(name)}`);
    const parts = args.split(';');
    if (!parts.every((entry) => /^[^=]+=/.test(entry))) throw new Error(`network ${JSON.stringify(name)} provided with invalid arguments: [${parts.join(' ')}]`);
    return { name, args };
  });
}

/** All `--net` of a command together; each name once. Nothing given means `default`. */
export function combineNetworks(lists: readonly (readonly NetworkChoice[])[]): NetworkChoice[] {
  const all = lists.flat();
  if (all.length === 0) return [{ name: 'default' }];
  const seen = new Set<string>();
  for (const { name } of all) {
    if (seen.has(name)) throw new Error(`found duplicate netname ${JSON.stringify(name)}`);
    seen.add(name);
  }
  return all;
}
