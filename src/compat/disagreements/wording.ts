/** How a bit in a word is said in a sentence. */
import { has } from "../../virtio/index.js";
import type { Play } from "./play.js";

/** What a bit is to the guest. */
export const offered = (word: bigint, bit: number): string => (has(word, bit) ? "offered" : "not offered");

/** What the device does. */
export const offers = ({ words }: Play, bit: number): string =>
  has(words.offeredByBackend, bit) ? "offers" : "does not offer";

/** What the guest does. */
export const taken = (word: bigint, bit: number): string =>
  has(word, bit) ? "acknowledges it" : "does not acknowledge it";

/** What becomes of the device. */
export const told = (word: bigint, bit: number): string => (has(word, bit) ? "is told" : "is not told");
