/** Where the agent keeps things in the guest's own root. Everything an app must not see is below AGENT, detached from its mounts in one call. */
export const AGENT = '/agent';
export const DISKS = '/agent/disks';
export const SCRATCH = '/agent/scratch';
/** Directories and files of the host, one mount each. */
export const SHARES = '/agent/shares';
/** What the pod provides in the apps' file systems, a directory for each app. */
export const PROVIDED = '/agent/provided';
/** What apps see as /run/rkt: how they ask about their own pod. */
export const ATTEST = '/agent/attest';
/** Shared device file systems, and /proc and /sys as apps see them. */
export const TEMPLATE = '/agent/template';
/** Where an app's root is put together. */
export const NEW_ROOT = '/agent/root';
/** Where on the writable disk an app's changes are; `index` counts the apps of the pod from 0. */
export const appLayer = (index: number): string => `${SCRATCH}/apps/${index + 1}`;
