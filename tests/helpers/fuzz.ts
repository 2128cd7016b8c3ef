/** The long mode of fuzzing: RKT_FUZZ_SECONDS=N goes on for N seconds from a seed of its own; seed, inputs and memory are printed. */
import t from 'tap';

const SECONDS = Number(process.env['RKT_FUZZ_SECONDS'] ?? 0);

/** `fuzz` tries the input of one round after the other as long as it may, and says what came of them. */
export function fuzzForLong(name: string, fuzz: (seed: number, mayGoOn: (round: number) => boolean) => unknown): void {
  if (SECONDS > 0) t.setTimeout((SECONDS + 120) * 1000);
  t.test(`${name}, for long`, { skip: SECONDS > 0 ? false : 'RKT_FUZZ_SECONDS is not set', timeout: (SECONDS + 60) * 1000 }, async (t) => {
    const seed = Date.now() % 2 ** 31;
    t.comment(`seed ${seed}`);
    const end = performance.now() + SECONDS * 1000;
    let inputs = 0;
    const ends = await fuzz(seed, (round) => {
      inputs = round;
      return performance.now() < end;
    });
    t.comment(`${inputs} inputs, at most ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB of memory; ${JSON.stringify(ends instanceof Map ? [...(ends as Map<string, number>)].sort() : ends)}`);
  });
}
