/**
 * The control socket of `bit33 serve`: a Unix socket that only its owner may connect to (mode 0600), on which VMs are
 * listed, added and removed (`control-protocol.ts`). Must not know how a device works.
 */
import { createServer, type Server, type Socket } from "node:net";
import { OperatorError, StartError } from "../../config/errors.js";
import {
  type ClaimedSocket,
  claimSocket,
  releaseSocket,
  removeSocketFile,
} from "../../device/claim-socket.js";
import { checkVmConfigs } from "../../device/config/check.js";
import { readVmSettings } from "../../device/config/settings.js";
import type { VmConfig } from "../../device/config/vm-config.js";
import type { RunningDevice } from "../../device/device.js";
import type { Logger } from "../../log/logger.js";
import {
  type ControlAnswer,
  type ControlRequest,
  failure,
  type ListedVm,
  LONGEST_LINE_BYTES,
  parseRequest,
  settingsOf,
} from "./control-protocol.js";

/** Whoever may connect is trusted with everything that this program may do. */
const SOCKET_MODE = 0o600;
const MOST_CLIENTS = 64;

export interface ControlledDevice extends Pick<RunningDevice, "configs" | "add" | "remove" | "reports"> {}

export interface ControlServer {
  close(): Promise<void>;
}

/** The socket, before anybody is answered on it: made while the process still has all of its rights. */
export class ControlSocket {
  readonly #claimed: ClaimedSocket;
  #isHeld = true;

  /** Throws `StartError` if the path cannot be had. */
  constructor(path: string) {
    this.#claimed = claimSocket(path, { mode: SOCKET_MODE });
  }

  /** Answers clients from now on. */
  async serve(
    device: ControlledDevice,
    log: Logger,
    added: (config: VmConfig) => void,
  ): Promise<ControlServer> {
    const server = createServer((client) => new Client(client, device, log, added));
    server.maxConnections = MOST_CLIENTS;
    await listen(server, this.#claimed);
    this.#isHeld = false;
    const clients = new Set<Socket>();
    server.on("connection", (client) => {
      clients.add(client);
      client.once("close", () => clients.delete(client));
    });
    server.on("error", () => {});
    return {
      close: () =>
        new Promise((resolve) => {
          removeSocketFile(this.#claimed);
          server.close(() => resolve());
          for (const client of clients) client.destroy();
        }),
    };
  }

  /** Gives the socket up, unless it is served: then `ControlServer.close` does. */
  release(): void {
    if (this.#isHeld) releaseSocket(this.#claimed);
    this.#isHeld = false;
  }

  get path(): string {
    return this.#claimed.path;
  }
}

function listen(server: Server, { fd, path }: ClaimedSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new StartError("bind-failed", path, `cannot listen there: ${cause.message}`, { cause })),
    );
    server.listen({ fd }, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

/** One client; its requests are answered one after the other. */
class Client {
  readonly #socket: Socket;
  readonly #device: ControlledDevice;
  readonly #log: Logger;
  readonly #added: (config: VmConfig) => void;
  #text = "";
  #last: Promise<void> = Promise.resolve();

  constructor(socket: Socket, device: ControlledDevice, log: Logger, added: (config: VmConfig) => void) {
    this.#socket = socket;
    this.#device = device;
    this.#log = log;
    this.#added = added;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#take(text));
    // A client that leaves: what it had asked for goes on.
    socket.on("error", () => {});
  }

  #take(text: string): void {
    this.#text += text;
    for (let end = this.#text.indexOf("\n"); end >= 0; end = this.#text.indexOf("\n")) {
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      this.#last = this.#last.then(async () => this.#send(await this.#answer(parseRequest(line))));
    }
    if (this.#text.length <= LONGEST_LINE_BYTES) return;
    this.#text = "";
    const problem = `a request has at most ${LONGEST_LINE_BYTES} bytes and ends with a newline`;
    this.#last = this.#last.then(() => {
      this.#send(failure("request-malformed", "", problem));
      this.#socket.end();
    });
    this.#socket.removeAllListeners("data").resume();
  }

  #send(answer: ControlAnswer): void {
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify(answer)}\n`);
  }

  async #answer(request: ControlRequest | ControlAnswer): Promise<ControlAnswer> {
    if (!("command" in request)) return request;
    try {
      return await this.#obey(request);
    } catch (error) {
      if (error instanceof OperatorError) return failure(error.code, error.where, error.message);
      const message = `${request.command} on the control socket failed: ${String(error)}`;
      this.#log.log({ event: "internal-error", message });
      return failure("internal-error", "", message);
    }
  }

  async #obey(request: ControlRequest): Promise<ControlAnswer> {
    const device = this.#device;
    switch (request.command) {
      case "list":
        return { ok: true, vms: device.configs.map(listed) };
      case "stats": {
        const reports = await device.reports();
        const { cid } = request;
        if (cid === undefined) return { ok: true, reports };
        const report = reports.find((each) => each.cid === cid);
        if (report === undefined) return failure("vm-unknown", "cid", `no VM with CID ${cid} is served`);
        return { ok: true, reports: [report] };
      }
      case "remove":
        await device.remove(request.cid);
        return { ok: true };
      case "add": {
        const placed = readVmSettings(settingsOf(request.vm));
        const served = device.configs.map((config) => ({
          config,
          placeOf: () => `the VM with CID ${config.guestCid}`,
        }));
        checkVmConfigs([...served, placed]);
        await device.add([placed.config]);
        this.#added(placed.config);
        return { ok: true, vm: listed(placed.config) };
      }
    }
  }
}

function listed({ guestCid, socketPath, udsPath, iotlb, maxConnections }: VmConfig): ListedVm {
  return { cid: guestCid, socket: socketPath ?? null, udsPath, iotlb, maxConnections };
}
