/** Everything that must be refused is, by four real hospitals: with its code, a sentence, and no change of the state. */
import t from 'tap';
import { Consortium } from './consortium.ts';
import { refusedAccess } from './refusals-access.ts';
import { refusedAdministrators } from './refusals-administrators.ts';
import { castOf } from './refusals-cast.ts';
import { refusedEnvelopes } from './refusals-envelope.ts';
import { refusedRecords } from './refusals-records.ts';

const consortium = await Consortium.open(t);
const cast = await castOf(consortium);

await refusedEnvelopes(t, cast);
await refusedAccess(t, cast);
await refusedAdministrators(t, cast);
// The last: a hospital's node is replaced by one that lies.
await refusedRecords(t, cast);
