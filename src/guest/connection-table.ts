/** The driver's sockets by local and peer port, and the peer's CID. Hot path: `find` allocates nothing. */
import type { GuestConnection } from "./connection.js";

/** Where Linux begins to hand out local ports is random; any number above the privileged ones will do. */
const FIRST_EPHEMERAL_PORT = 0x4000_0000;

export class ConnectionTable {
  readonly #byPorts = new Map<number, Map<number, GuestConnection>>();
  #nextPort = FIRST_EPHEMERAL_PORT;
  count = 0;

  find(localPort: number, peerPort: number, peerCid: number): GuestConnection | undefined {
    return this.#byPorts.get(localPort)?.get(keyOf(peerPort, peerCid));
  }

  add(connection: GuestConnection): void {
    let peers = this.#byPorts.get(connection.localPort);
    if (peers === undefined) {
      peers = new Map();
      this.#byPorts.set(connection.localPort, peers);
    }
    peers.set(keyOf(connection.peerPort, connection.peerCid), connection);
    this.count++;
  }

  remove(connection: GuestConnection): void {
    const peers = this.#byPorts.get(connection.localPort);
    if (peers?.delete(keyOf(connection.peerPort, connection.peerCid)) !== true) return;
    this.count--;
    if (peers.size === 0) this.#byPorts.delete(connection.localPort);
  }

  /** A local port that no connection uses. */
  ephemeralPort(): number {
    do this.#nextPort = this.#nextPort === 0x7fff_ffff ? FIRST_EPHEMERAL_PORT : this.#nextPort + 1;
    while (this.#byPorts.has(this.#nextPort));
    return this.#nextPort;
  }

  all(): GuestConnection[] {
    return [...this.#byPorts.values()].flatMap((peers) => [...peers.values()]);
  }
}

/** Exact for the CIDs below 2^21 that a test or a demonstration has. */
function keyOf(peerPort: number, peerCid: number): number {
  return peerCid * 2 ** 32 + peerPort;
}
