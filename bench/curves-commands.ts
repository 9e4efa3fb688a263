/** What the curves ask of their two processes. Outcomes are those of the bench (`commands.ts`). */
import type { HostCommand, Sending } from "./commands.js";

export type CurveGuestCommand =
  /** Attaches a driver to each of these devices, which are numbered from 0. */
  | { readonly do: "attach"; readonly socketPaths: readonly string[]; readonly queueSize: number }
  /** Attaches one driver whose memory is cut into so many regions. */
  | { readonly do: "attach-regions"; readonly socketPath: string; readonly regions: number }
  /** Opens connections with the first driver, and leaves them. */
  | { readonly do: "idle"; readonly port: number; readonly connections: number }
  /** Sends with one driver. */
  | ({
      readonly do: "send";
      readonly vm: number;
      readonly port: number;
      readonly connections: number;
    } & Sending)
  /** Sends with every driver on a connection of its own, for a short while each, again and again. */
  | ({ readonly do: "send-in-turn"; readonly port: number; readonly turnMs: number } & Sending)
  /** Takes what comes to the first driver, until all is there. */
  | { readonly do: "receive" }
  /** With the driver of the regions. */
  | ({ readonly do: "send-regions"; readonly port: number } & Sending)
  | { readonly do: "receive-regions" }
  | { readonly do: "hang-up" };

export type CurveHostCommand =
  | HostCommand
  /** Takes so many connections and leaves them. */
  | { readonly do: "hold"; readonly connections: number }
  /** Listens at each of these paths, takes a connection from each, and reads them until all is there. */
  | { readonly do: "receive-each"; readonly paths: readonly string[] };
