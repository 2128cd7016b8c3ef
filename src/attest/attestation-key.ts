/** What a key must be for its signature to be the word of a TPM. */
import { RktError } from '../error.ts';
import { TPMA_OBJECT, type PublicArea } from '../tpm/public-area.ts';

const REQUIRED_ATTRIBUTES: readonly (keyof typeof TPMA_OBJECT)[] = ['fixedTpm', 'fixedParent', 'sensitiveDataOrigin', 'restricted', 'sign'];

/**
 * A key that cannot leave its TPM and signs only what that TPM says.
 * @param whose begins the message
 * @throws RktError BAD_INPUT
 */
export function requireAttestationKey({ attributes, scheme }: PublicArea, whose: string): void {
  for (const name of REQUIRED_ATTRIBUTES) if ((attributes & TPMA_OBJECT[name]) === 0) throw new RktError('BAD_INPUT', `${whose} is not ${name}: it could sign what no TPM said`);
  if ((attributes & TPMA_OBJECT.decrypt) !== 0) throw new RktError('BAD_INPUT', `${whose} also decrypts: it is no attestation key`);
  if (scheme === null) throw new RktError('BAD_INPUT', `${whose} has no signing scheme`);
}
