/** Networks of pods: CNI plugins in a namespace per pod, and a tap device from there to the virtual machine. */
export { readRecords } from './attachment-record.ts';
export type { AttachmentRecord } from './attachment-record.ts';
export { findPlugin } from './cni/plugin.ts';
export type { Dns } from './cni/result.ts';
export type { GuestInterface } from './guest-interface.ts';
export { chooseNetworks, networkDirectories, readNetworks } from './networks.ts';
export type { ChosenNetwork, KnownNetwork, NetworkChoice, NetworkDirectories } from './networks.ts';
export { interfaceNames, LOOPBACK_INTERFACE, setUpPodNetwork, tearDownPodNetwork } from './pod-network.ts';
export { checkPodNetwork, heldPorts, inspectPodNetwork } from './pod-questions.ts';
export type { CheckedNetwork, InspectedInterface } from './pod-questions.ts';
export { reservePorts } from './port-forwarding.ts';
export type { NetworkedPod, PodNetwork, PodNetworkRequest } from './pod-network.ts';
export { lockForCollection, namespacePath } from './places.ts';
export { collide, portMappings } from './port-mappings.ts';
export type { PortMapping } from './port-mappings.ts';
export { collectUnused, networkReadiness } from './network-questions.ts';
export type { Finding } from './network-questions.ts';
