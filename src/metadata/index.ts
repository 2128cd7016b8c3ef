/** The metadata service of the App Container specification, and how pods become known to it. */
export { registrationSocket } from './places.ts';
export { registerPod, unregisterPod } from './register.ts';
