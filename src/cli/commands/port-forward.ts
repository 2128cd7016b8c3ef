import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { RktError } from '../../error.ts';
import { openPodByName, requireRunning } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { connectAgent, openTcpPort } from '../../stage0/guest-connection.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { argumentsOfPod } from '../pod-argument.ts';
import { failure } from '../reporter.ts';
import type { Outcome, Reporter } from '../reporter.ts';

interface Forwarding {
  /** 0: any that is free. */
  local: number;
  remote: number;
}

export async function run(input: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const { values } = input;
  const { reporter } = context;
  const [name, ...ports] = argumentsOfPod(input);
  if (name === undefined || ports.length === 0) throw usage('expected a UUID and ports: [LOCAL:]REMOTE');
  const forwardings = ports.map(parseForwarding);
  const addresses = values.has(flags.address) ? values.all(flags.address).flat() : ['127.0.0.1'];
  using pod = openPodByName(context.dataDir(), name);
  requireRunning(pod);
  // Its end is that of the pod.
  const agent = await connectAgent(pod);
  const servers: Server[] = [];
  try {
    for (const forwarding of forwardings) {
      for (const address of addresses) servers.push(await listen(pod, { ...forwarding, address }, reporter));
    }
    await agent.ended;
  } finally {
    agent.close();
    for (const server of servers) server.close();
  }
  reporter.note(`lost connection to pod "${pod.uuid}"`);
  return failure();
}

/** `8080`, `8080:80`, `:80`. */
function parseForwarding(text: string): Forwarding {
  const [first, second, ...rest] = text.split(':');
  const remote = portNumber(second ?? first ?? '');
  const local = second === undefined ? remote : first === '' || first === '0' ? 0 : portNumber(first ?? '');
  if (remote === undefined || local === undefined || rest.length > 0) throw usage(`invalid port ${JSON.stringify(text)}: expected [LOCAL:]REMOTE with ports from 1 to 65535`);
  return { local, remote };
}

function portNumber(text: string): number | undefined {
  const port = Number(text);
  return /^\d{1,5}$/.test(text) && port >= 1 && port <= 65535 ? port : undefined;
}

async function listen(pod: PodHandle, { local, remote, address }: Forwarding & { address: string }, reporter: Reporter): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen({ host: address, port: local });
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new RktError('BUSY', `unable to listen on ${bracketed(address)}:${local}`, { cause });
  }
  const { port } = server.address() as AddressInfo;
  reporter.print(`Forwarding from ${bracketed(address)}:${port} -> ${remote}`);
  server.on('connection', (client) => {
    reporter.print(`Handling connection for ${port}`);
    carry(client, () => openTcpPort(pod, remote)).catch((error: unknown) => reporter.error(error, `an error occurred forwarding ${port} -> ${remote}`));
  });
  return server;
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

async function carry(client: Socket, open: () => Promise<Socket>): Promise<void> {
  // Whoever hangs up meanwhile does not end this program.
  client.on('error', () => client.destroy());
  let guest: Socket;
  try {
    guest = await open();
  } catch (error) {
    client.destroy();
    throw error;
  }
  guest.on('error', () => guest.destroy());
  for (const [from, to] of [[client, guest], [guest, client]] as const) {
    from.pipe(to);
    from.on('close', () => {
      if (from.errored !== null || !from.readableEnded) to.destroy();
    });
  }
  client.resume();
}
