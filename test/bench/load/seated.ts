/** The benchmark's people in a consortium whose nodes run in this process: keys at hand, no folders. */
import { H } from '../../../common/crypto/hash.ts';
import { sm2Address } from '../../../common/crypto/sm2.ts';
import { type Genesis, genesisHash } from '../../../common/protocol/genesis.ts';
import { createOpensslSigner } from '../../../common/native/sm2-openssl.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../../common/protocol/chain-params.ts';
import { sortedValidatorSet } from '../../../common/protocol/validator-set.ts';
import { type Consortium, type Hospital, peerIdFor } from '../../integration/node-consortium.ts';
import { benchKey } from './bench-key.ts';
import type { Town } from './town.ts';

export function seated(town: Town): Consortium {
  const founders = town.orgs.map((orgId, index): Hospital => ({
    orgId,
    validator: createOpensslSigner(benchKey('validator', index).privateKey),
    admin: town.admin(index),
    peerId: peerIdFor(orgId.replace('hospital', '')),
  }));
  const genesis: Genesis = {
    version: 1,
    network: 'bench',
    timeMs: Date.now() - 60_000,
    params: { ...DEFAULT_CHAIN_PARAMS, roleCoolingMs: 0, maxOpenRequests: 10_000, replicas: 0 },
    organisations: town.orgs.map((orgId) => ({ orgId, name: orgId, custodianKey: null })),
    validators: sortedValidatorSet(
      founders.map(({ orgId, validator: { publicKey }, peerId }) => ({
        orgId,
        publicKey,
        address: sm2Address(publicKey),
        peerId,
      })),
    ),
    accounts: town.accounts(),
    observers: [],
    salt: H('bench-salt').slice(0, 16),
  };
  const hospitals = genesis.validators.map(({ orgId }) => founders.find((f) => f.orgId === orgId) as Hospital);
  return { genesis, chainId: genesisHash(genesis), hospitals };
}
