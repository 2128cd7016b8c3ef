/** The keys with which a person leaves an app without ending it, in docker's notation: `ctrl-p,ctrl-q`, `ctrl-]`, `a`. Pure. */
import { Stage1Error } from '../error.ts';

export const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q';
const CONTROL = 'ctrl-';
const CONTROL_CHARACTERS = '@abcdefghijklmnopqrstuvwxyz[\\]^_';

/** Empty: there are none. @throws Stage1Error */
export function parseDetachKeys(text: string): number[] {
  return text === '' ? [] : text.split(',').map((key) => {
    const control = key.startsWith(CONTROL) && key.length === CONTROL.length + 1 ? CONTROL_CHARACTERS.indexOf(key[CONTROL.length]!.toLowerCase()) : -1;
    if (control >= 0) return control;
    const code = key.length === 1 ? key.charCodeAt(0) : NaN;
    if (!(code > 32 && code < 127)) throw new Stage1Error(`--detach-keys: expected keys such as ctrl-p or q, found "${key}"`);
    return code;
  });
}

export interface DetachFilter {
  /** What may go on to the app; null: the keys were pressed. A beginning of the keys is held back until it is clear that it is none. */
  push(bytes: Uint8Array): Uint8Array | null;
}

export function detachFilter(keys: readonly number[]): DetachFilter {
  const held: number[] = [];
  return {
    push(bytes) {
      if (keys.length === 0) return bytes;
      const passed: number[] = [];
      for (const byte of bytes) {
        held.push(byte);
        while (!held.every((key, index) => key === keys[index])) passed.push(held.shift()!);
        if (held.length === keys.length) return null;
      }
      return new Uint8Array(passed);
    },
  };
}
