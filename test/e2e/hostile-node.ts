/**
 * The node of a hospital that has changed its software: it takes any record that its writers submit, whether or not the
 * ciphertext is what the record says. For the others nothing but their own checks stands between them and that record.
 */
import { accept } from '../../common/errors.ts';
import { BlobService } from '../../node/replication/blob-service.ts';

BlobService.prototype.admits = () => Promise.resolve(accept(undefined));
await import('../../node/main.ts');
