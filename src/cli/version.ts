/** Of rkt itself; a test keeps it equal to package.json. */
export const RKT_VERSION = '2.0.0';

/** Of the App Container specification; a test keeps it equal to what the schema says, which would take longer to load. */
export const APPC_VERSION = '0.8.11';
