/** The pod's token for the metadata service, from what stage0 has written when it registered the pod. */
import { readJson } from '../../runtime/linux/json-file.ts';
import { exists } from '../../runtime/linux/files.ts';
import { Stage1Error } from '../error.ts';

const REGISTERED_PATH = 'mds-registered';

/** Null: the pod is not registered. @throws Stage1Error */
export function readMetadataToken(): string | null {
  if (!exists(REGISTERED_PATH)) return null;
  const { token } = readJson(REGISTERED_PATH) as { token?: unknown };
  if (typeof token !== 'string') throw new Stage1Error(`${REGISTERED_PATH}: token: expected a string`);
  return token;
}
