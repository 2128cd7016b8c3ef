/** Documents that come from outside: types in the shape of their JSON, and parsers that check every field. */
export * from './appc.ts';
export { hasNoEffect, isolator, isolatorValue, isIsolatorName, isPodIsolator, isRlimit, PIDS_LIMIT_MAX, RLIMIT_NAMES, SYSCTL_EXPECTATION, sysctlPath, UNLIMITED } from './isolators.ts';
export type { CapabilitySet, Isolator, IsolatorName, IsolatorValue, ResourceValue, Rlimit, RlimitName, SeccompSet, SelinuxContext, UnrecognizedIsolator } from './isolators.ts';
export { isACIdentifier, isACName, isImageId, sanitizeACIdentifier, sanitizeACName } from './names.ts';
export { QUANTITY_EXPECTATION, quantityMilli, quantityNano, quantityUnits } from './quantity.ts';
export { appcPlatform, goPlatformOfAppc, type Platform } from './platform.ts';
