/** `emrchain token`: a reader's token, for the explorer and for other programs. */
import { MAX_RPC_TOKEN_LIFETIME_MS, RPC_TOKEN_SCHEME } from '../../../common/protocol/rpc-token.ts';
import { createReaderToken } from '../../reader-token.ts';
import { hexOf } from '../../hex.ts';
import { requireDuration, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

async function token(session: Session, options: { for: string }): Promise<Result> {
  const lifetimeMs = requireDuration(options.for);
  const [node, { key }] = [await session.node(), await session.sender()];
  const nowMs = session.nowMs();
  // A little less than the limit: the node's clock may be behind ours.
  const lasting = lifetimeMs === MAX_RPC_TOKEN_LIFETIME_MS ? lifetimeMs - 15_000 : lifetimeMs;
  const text = createReaderToken(node, key.signer, nowMs, lasting);
  session.out.note(`Whoever has this reads as ${key.name} from ${node.origin} until ${time(nowMs + lasting)}.`);
  return {
    json: {
      token: text,
      scheme: RPC_TOKEN_SCHEME,
      origin: node.origin,
      account: hexOf(key.account),
      notAfterMs: nowMs + lasting,
    },
    text: [text],
  };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command.option('--for <duration>', 'how long it lives, at most 15m', '15m').action(run(token));
  },
};
