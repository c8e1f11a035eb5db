/** Addresses of members as the configuration writes them: a multiaddr that ends with /p2p/<peer id>. */
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr';
import { EmrError } from '../../common/errors.ts';
import { isMemberAddress } from '../../config/addresses.ts';

/** @throws EmrError ADDRESS_INVALID */
export function parseMemberAddress(text: string): { readonly peerId: string; readonly address: Multiaddr } {
  try {
    // Base58 takes time that grows with the square of its length: the form comes first.
    if (!isMemberAddress(text)) throw new Error('not the form of an address with a peer id');
    const peerId = text.slice(text.lastIndexOf('/p2p/') + '/p2p/'.length);
    return { peerId: peerIdFromString(peerId).toString(), address: multiaddr(text) };
  } catch (cause) {
    throw new EmrError(
      'ADDRESS_INVALID',
      `${text} is no address of a member; write e.g. /dns4/hospital-b.example/tcp/7600/p2p/12D3KooW… in network.peers`,
      { address: text },
      { cause },
    );
  }
}
