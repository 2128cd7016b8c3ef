/** Registers for people. */
import { toHex, type PcrBanks } from '../tpm/index.ts';

export function pcrLines(banks: PcrBanks): string[] {
  return [...banks].flatMap(([bank, values]) => [`${bank}:`, ...[...values].sort(([a], [b]) => a - b).map(([pcr, value]) => `  ${String(pcr).padStart(2)}: ${toHex(value)}`)]);
}
