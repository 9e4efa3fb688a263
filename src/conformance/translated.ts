/** A raw guest behind a vIOMMU, with what most cases about translation do. */
import { Op } from "../vsock/header.js";
import type { CaseContext } from "./context.js";
import { type Joined, noise } from "./exchange.js";
import type { IoDomain } from "./io-domain.js";
import type { RawGuest, RawGuestOptions } from "./raw-guest.js";
import type { Block } from "./test-memory.js";

/** For what must not happen. */
export const QUIET_MS = 150;

export interface TranslatedGuest {
  readonly guest: RawGuest;
  readonly domain: IoDomain;
  /** Puts a packet of data into `page` and offers it at `iova`. */
  put(joined: Joined, page: Block, iova: bigint, data: Uint8Array): void;
  /** The same, and waits until it has arrived at the host and come back. */
  send(joined: Joined, page: Block, iova: bigint): Promise<void>;
}

export async function translatedGuest(
  context: CaseContext,
  options: RawGuestOptions = {},
): Promise<TranslatedGuest> {
  const guest = await context.guest({ ...options, translated: true });
  const { domain } = guest.memory;
  if (domain === undefined) throw new Error("a translated guest has a domain");
  const put = (joined: Joined, page: Block, iova: bigint, data: Uint8Array): void => {
    const length = guest.write(joined.guest.headerFor(Op.RW, data.length), data, page);
    guest.offer([{ address: iova, length }]);
  };
  const send = async (joined: Joined, page: Block, iova: bigint): Promise<void> => {
    const data = noise(1000);
    await guest.room();
    put(joined, page, iova, data);
    context.expect.sameBytes(
      await joined.host.read(data.length),
      data,
      "the host gets what the page holds now",
    );
    await guest.sent();
  };
  return { guest, domain, put, send };
}
