/** Ways from an interface to a virtual machine's network card: see tap.ts. */
export const TAP_MODES = ['redirect', 'bridge', 'macvtap'] as const;
export type TapMode = (typeof TAP_MODES)[number];
