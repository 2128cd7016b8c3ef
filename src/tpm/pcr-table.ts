/** Which PCR holds what. Within 0–9 and 11–14 other tools' policies can use them; 15 is where rkt always had its event. */
export const PCR = {
  /** The VMM: its binary and its configuration. */
  vmm: 0,
  kernel: 4,
  policy: 5,
  initramfs: 9,
  phases: 11,
  commandLine: 12,
  pod: 13,
  /** UUID and manifest, by the host. */
  rkt: 15,
} as const;

/** Closed by the host with EV_SEPARATOR before the guest's first instruction; a guest may not extend them. */
export const HOST_PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15];

/** What a quote of a pod covers, in each bank. */
export const QUOTED_PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 15];
