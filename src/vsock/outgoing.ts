/**
 * What every packet of a connection to the guest carries: whose it is, and the credit. Hot path: allocates nothing.
 */
import type { Connection } from "./connection.js";
import type { PacketHeader } from "./header.js";

/** Fills in `header`, but for `len`, `op` and `flags`; the guest is told of the connection's credit with it. */
export function addressPacket(header: PacketHeader, guestCid: number, connection: Connection): void {
  header.srcCid = connection.farCid;
  header.dstCid = guestCid;
  header.srcPort = connection.hostPort;
  header.dstPort = connection.guestPort;
  header.type = connection.type;
  header.bufAlloc = connection.receiveCredit.bufAlloc;
  header.fwdCnt = connection.receiveCredit.forwarded;
  connection.receiveCredit.told();
}
