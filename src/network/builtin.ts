/**
 * The networks that every host has: rkt's `99-default.conf` and `99-default-restricted.conf`. A file of an administrator
 * that defines a network of the same name takes the place of one of these.
 */
export interface BuiltinNetwork {
  /** Decides the order among networks, as a real file's name would. */
  fileName: string;
  text: string;
}

const CNI_VERSION = '1.0.0';

export const BUILTIN_NETWORKS: readonly BuiltinNetwork[] = [
  {
    fileName: '99-default.conf',
    text: JSON.stringify({
      cniVersion: CNI_VERSION,
      name: 'default',
      type: 'ptp',
      ipMasq: true,
      ipam: { type: 'host-local', subnet: '172.16.28.0/24', routes: [{ dst: '0.0.0.0/0' }] },
    }),
  },
  {
    fileName: '99-default-restricted.conf',
    text: JSON.stringify({
      cniVersion: CNI_VERSION,
      name: 'default-restricted',
      type: 'ptp',
      ipMasq: false,
      ipam: { type: 'host-local', subnet: '172.31.0.0/16' },
    }),
  },
];
