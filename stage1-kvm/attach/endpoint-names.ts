/** Where one can attach to an app, in rkt's words. */
export const ENDPOINT_NAMES = ['stdin', 'stdout', 'stderr', 'tty-in', 'tty-out'] as const;
export type EndpointName = (typeof ENDPOINT_NAMES)[number];
