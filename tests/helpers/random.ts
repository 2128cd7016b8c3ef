/** A small seeded generator (mulberry32), so that property tests and fuzzing repeat exactly. */
export interface SeededRandom {
  /** Integer in [0, limit). */
  below(limit: number): number;
  bytes(length: number): Uint8Array;
  pick<T>(values: readonly T[]): T;
}

export function seededRandom(seed: number): SeededRandom {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  const below = (limit: number): number => next() % limit;
  return {
    below,
    bytes: (length) => {
      const bytes = new Uint8Array(length);
      for (let i = 0; i < length; i++) bytes[i] = below(256);
      return bytes;
    },
    pick: (values) => {
      const value = values[below(values.length)];
      if (value === undefined) throw new RangeError('pick from an empty list');
      return value;
    },
  };
}
