/** The version of the software, from its manifest. */
import manifest from '../../package.json' with { type: 'json' };

export const { version } = manifest;
