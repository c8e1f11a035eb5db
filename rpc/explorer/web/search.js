/** From what somebody typed to the view that shows it: by form first, then by asking what the node knows. */

const HASH = /^0x[0-9a-f]{64}$/;
const ADDRESS = /^0x[0-9a-f]{40}$/;
const HEIGHT = /^\d{1,15}$/;

/** The route, or a sentence that says why there is none. */
export async function find(api, typed) {
  const query = typed.trim().replaceAll(',', '').toLowerCase();
  if (query === '') return { message: 'Type a height, a hash, or an account.' };
  if (HEIGHT.test(query)) return { route: ['block', query] };
  const hex = /^[0-9a-f]+$/.test(query) ? `0x${query}` : query;
  if (ADDRESS.test(hex)) return { route: ['account', hex] };
  if (!HASH.test(hex)) return { message: 'That is no height, no hash (64 digits of hex) and no account (40 digits).' };
  const candidates = [
    ['block', 'chain_getHeader', { hash: hex }],
    ['tx', 'tx_get', { hash: hex }],
    ['record', 'emr_getRecord', { recordId: hex }],
    ['request', 'acl_getRequest', { requestHash: hex }],
    ['policy', 'emr_getPolicy', { policyRef: hex }],
  ];
  const results = await api.many(candidates.map(([, method, params]) => [method, params]));
  const found = candidates.find((_, index) => !(results[index] instanceof Error));
  if (found) return { route: [found[0], hex] };
  const closed = results.some((result) => result.code === -32007);
  return {
    message: closed
      ? 'Nothing public has this hash; with a token more can be found.'
      : 'Nothing on this chain has this hash.',
  };
}
