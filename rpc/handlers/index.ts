/** All methods of the table with what answers them. */
import type { MethodName } from '../methods.ts';
import { RpcError } from '../errors.ts';
import type { Call, Handlers, MethodsOf, Service, SocketSession } from '../service.ts';
import { aclHandlers, govHandlers } from './access.ts';
import { chainHandlers } from './chain.ts';
import { custodyStatusHandlers } from './custody.ts';
import { consensusHandlers, netHandlers, nodeHandlers } from './node.ts';
import { blobHandlers, custodyHandlers, emrHandlers, stateHandlers } from './records.ts';
import { txHandlers } from './tx.ts';

export function allHandlers(service: Service): Handlers {
  return {
    ...nodeHandlers(service),
    ...chainHandlers(service),
    ...txHandlers(service),
    ...consensusHandlers(service),
    ...stateHandlers(service),
    ...emrHandlers(service),
    ...aclHandlers(service),
    ...custodyHandlers(service),
    ...custodyStatusHandlers(service),
    ...govHandlers(service),
    ...netHandlers(service),
    ...blobHandlers(service),
    ...subHandlers,
  };
}

function socketOf(call: Call, method: MethodName): SocketSession {
  if (call.socket === null) throw new RpcError('METHOD_DISABLED', `${method} needs a WebSocket.`, 'WEBSOCKET_ONLY');
  return call.socket;
}

const subHandlers: Handlers<MethodsOf<'sub'>> = {
  sub_subscribe: (params, call) => socketOf(call, 'sub_subscribe').subscribe(params),
  sub_unsubscribe: (params, call) => socketOf(call, 'sub_unsubscribe').unsubscribe(params),
  sub_authenticate: (params, call) => socketOf(call, 'sub_authenticate').authenticate(params),
};
