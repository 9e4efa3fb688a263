/**
 * The HTTP side of `--metrics host:port`: answers GET /metrics with a page that is made when it is asked for, and
 * anything else with an error. Must not know what is on the page.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { StartError } from "../../config/errors.js";

/** Where to listen. */
export interface ListenAddress {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** As the operator wrote it, and where. */
  readonly text: string;
  readonly place: string;
}

export interface MetricsServer {
  /** `http://host:port/metrics`, with the port that it has. */
  readonly url: string;
  close(): Promise<void>;
}

export interface MetricsPage {
  readonly contentType: string;
  make(): Promise<string>;
}

/** More clients than a few collectors are a mistake or an attack; each may cost a page. */
const MOST_CLIENTS = 16;

/** How long a client may take to send its request, and to take the page. */
const REQUEST_TIMEOUT_MS = 5000;
const IDLE_TIMEOUT_MS = 10_000;

/** Rejects with `StartError` if the address cannot be had. */
export async function serveMetrics(address: ListenAddress, page: MetricsPage): Promise<MetricsServer> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS });
  server.maxConnections = MOST_CLIENTS;
  server.setTimeout(IDLE_TIMEOUT_MS);
  server.on("request", (request, response) => void answer(request, response, page));
  await listen(server, address);
  // What fails later is a client's affair; without a listener it would end the process.
  server.on("error", () => {});
  const { port } = server.address() as AddressInfo;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return {
    url: `http://${host}:${port}/metrics`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, { host, port, text, place }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const problem = `cannot serve metrics on ${text}: ${cause.message}; choose an address of this machine and a free port`;
      reject(new StartError("bind-failed", place, problem, { cause }));
    });
    server.listen({ host, port }, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, page: MetricsPage): Promise<void> {
  // A client that leaves before it has its answer.
  response.on("error", () => {});
  request.resume();
  const path = (request.url ?? "").split("?")[0];
  if (path !== "/metrics" && path !== "/") {
    refuse(response, 404, "there is nothing but /metrics");
  } else if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("Allow", "GET, HEAD");
    refuse(response, 405, "only GET and HEAD are answered");
  } else {
    const body = await page.make();
    response.writeHead(200, {
      "Content-Type": page.contentType,
      "Content-Length": Buffer.byteLength(body),
      "Cache-Control": "no-store",
    });
    response.end(request.method === "HEAD" ? undefined : body);
  }
}

function refuse(response: ServerResponse, status: number, problem: string): void {
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" });
  response.end(`${problem}\n`);
}
