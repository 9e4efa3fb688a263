/** Whether a VM works: data both ways over a connection of the guest's. What most cases end with. */
import { randomFillSync } from "node:crypto";
import { Op, Shutdown } from "../vsock/header.js";
import type { CaseContext } from "./context.js";
import type { HostSocket } from "./host-programs.js";
import type { RawConnection } from "./raw-connection.js";
import type { RawGuest } from "./raw-guest.js";

export function noise(bytes: number): Buffer {
  return randomFillSync(Buffer.alloc(bytes));
}

export interface Joined {
  readonly guest: RawConnection;
  readonly host: HostSocket;
}

/** A connection of the guest's to a listener of the host's. */
export async function join(context: CaseContext, guest: RawGuest): Promise<Joined> {
  const port = context.hostPort();
  const listener = await context.host.listen(port);
  const connection = await guest.connect(port);
  return { guest: connection, host: await listener.accept() };
}

/** A connection of the host's to a port of the guest's, through the hybrid socket. */
export async function call(context: CaseContext, guest: RawGuest): Promise<Joined> {
  const port = guest.port();
  const host = await context.host.request(port);
  const connection = await guest.accept(port);
  const line = await host.readLine();
  context.expect.that(/^OK \d+\n$/.test(line), "the hybrid socket says OK and a port", JSON.stringify(line));
  return { guest: connection, host };
}

/** Moves so many bytes each way, and compares. */
export async function exchange(
  context: CaseContext,
  { guest, host }: Joined,
  toHostBytes = 20_000,
  toGuestBytes = toHostBytes,
): Promise<void> {
  const toHost = noise(toHostBytes);
  const toGuest = noise(toGuestBytes);
  host.write(toGuest);
  await guest.write(toHost);
  context.expect.sameBytes(await host.read(toHostBytes), toHost, "the host gets what the guest sent");
  context.expect.sameBytes(await guest.read(toGuestBytes), toGuest, "the guest gets what the host sent");
}

/** Ends a connection from the guest's side, cleanly. */
export function hangUp({ guest, host }: Joined): void {
  guest.send(Op.SHUTDOWN, { flags: Shutdown.BOTH });
  host.end();
}

/** One connection, data both ways, and its end. */
export async function assertWorks(context: CaseContext, guest: RawGuest, bytes?: number): Promise<void> {
  const joined = await join(context, guest);
  await exchange(context, joined, bytes);
  hangUp(joined);
}
