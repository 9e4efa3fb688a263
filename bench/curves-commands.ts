/** What the curves ask of their two processes. Outcomes are those of the bench (`commands.ts`). */
import type { HostCommand, Sending } from "./commands.js";

export type CurveGuestCommand =
  /** Attaches a driver to each of these devices, which are numbered from 0. */
  | { readonly do: "attach"; readonly socketPaths: readonly string[]; readonly queueSize: number }
  /** Attaches one driver whose memory is cut into so many regions. */
  | { readonly do: "attach-regions"; readonly socketPath: string; readonly regions: number }
  /** Opens connections with one driver, behind those that are open already. */
  | { readonly do: "open"; readonly vm: number; readonly port: number; readonly connections: number }
  /** Sends with that driver on so many of them, those that were opened last, in turn. */
  | ({ readonly do: "send"; readonly vm: number; readonly connections: number } & Sending)
  /** Opens a connection with every driver. */
  | { readonly do: "open-each"; readonly port: number }
  /** Sends on those, for a short while on each, again and again. */
  | ({ readonly do: "send-in-turn"; readonly turnMs: number } & Sending)
  /** Takes what comes to the first driver, until all is there. */
  | { readonly do: "receive" }
  /** With the driver of the regions. */
  | { readonly do: "open-regions"; readonly port: number }
  | ({ readonly do: "send-regions" } & Sending)
  | { readonly do: "receive-regions" }
  | { readonly do: "hang-up" };

export type CurveHostCommand =
  | HostCommand
  /** Takes so many connections, behind those that it has already. */
  | { readonly do: "hold"; readonly connections: number }
  /** Reads so many of them, those that came last, until all is there. */
  | { readonly do: "read"; readonly connections: number }
  /** Listens at each of these paths. */
  | { readonly do: "listen-each"; readonly paths: readonly string[] };
