/**
 * What happened in a cell, in order, as it is noted down: the raw material of its story. Each note is one line; some
 * bear a mark by which the story finds them again. Must not know what any of it means.
 */
import type { LogRecord } from "../log/record.js";
import { describeFeatures, F, has } from "../virtio/index.js";
import type { VmmEvent } from "../vmm/player.js";
import type { Actor, Step } from "./record.js";
import type { Finding } from "./witness.js";

export type Mark =
  | "device-offer"
  | "guest-offer"
  | "acknowledged"
  | "passed-on"
  /** SET_FEATURES reached the device. */
  | "told"
  /** An IOTLB message or a question about one: there are many. */
  | "iotlb"
  /** The device decided, or was told, what its addresses mean. */
  | "decided"
  /** Somebody said no, or a request failed. */
  | "failed"
  /** The guest took mappings back, and the VMM passed that on, or did not. */
  | "invalidate-told"
  | "invalidate-lost"
  | `found-${Finding["kind"]}`
  /** Put in by the story. */
  | `belief-${Actor}`;

export interface Note extends Omit<Step, "parting"> {
  readonly mark?: Mark;
}

/** Log records that a story needs; the rest repeats what the messages say. */
const TOLD_EVENTS: ReadonlySet<string> = new Set([
  "translation-mode",
  "ring-broken",
  "ring-held",
  "message-refused",
  "iotlb-refused",
  "mapping-missing",
  "channel-closed",
  "session-end",
]);

export class Chronicle {
  readonly notes: Note[] = [];
  /** What the device logged, by event: the first message of each. */
  readonly logged = new Map<string, LogRecord>();
  /** Why bit 33 is in the VMM's words, or not: of its offer, and of what it tells the device. */
  readonly because = new Map<"guest-offer" | "passed-on", string>();
  /** UPDATEs and INVALIDATEs that the VMM sent. */
  updates = 0;
  invalidates = 0;
  /** Of the VMM's messages that have begun and not ended, the innermost last: where their notes belong. */
  readonly #begun: number[] = [];

  add(actor: Actor, kind: Step["kind"], text: string, mark?: Mark): void {
    this.insert(this.notes.length, actor, kind, text, mark);
  }

  /** As `add`, before the note at `index`: for what was begun before and is known to the end only now. */
  insert(index: number, actor: Actor, kind: Step["kind"], text: string, mark?: Mark): void {
    this.notes.splice(index, 0, { actor, kind, text, ...(mark === undefined ? {} : { mark }) });
  }

  /** Whether something with this mark was noted. */
  has(mark: Mark): boolean {
    return this.notes.some((note) => note.mark === mark);
  }

  /** The VMM's report. */
  readonly vmm = (event: VmmEvent): void => {
    switch (event.kind) {
      case "begins":
        this.#begun.push(this.notes.length);
        return;
      case "device-offer":
        this.add("device", "negotiation", `offers ${described(event.features)}`, "device-offer");
        return;
      case "guest-offer":
        this.because.set(event.kind, event.because);
        this.add(
          "vmm",
          "negotiation",
          `offers its guest ${described(event.features)}: ${event.because}`,
          "guest-offer",
        );
        return;
      case "passed-on":
        this.because.set(event.kind, event.because);
        this.add(
          "vmm",
          "negotiation",
          `is to tell the device ${described(event.sent)}: ${event.because}`,
          "passed-on",
        );
        return;
      case "message": {
        if (/\bINVALIDATE\b/.test(event.text)) this.invalidates++;
        if (/\bUPDATE\b/.test(event.text)) this.updates++;
        const begun = this.#begun.pop() ?? this.notes.length;
        const result = event.result === undefined ? "" : ` → ${event.result}`;
        // What a message sets off comes behind it; an ioctl is over with what it did, and with its errno.
        const at = event.text.startsWith("VHOST_") ? this.notes.length : begun;
        this.insert(at, "vmm", "message", `${event.text}${result}`, markOf(event.text));
        return;
      }
      case "question": {
        const begun = this.#begun.pop() ?? this.notes.length;
        this.insert(begun, "device", "message", `asks: ${event.text}; answer: ${event.answer}`, "iotlb");
        return;
      }
      case "refused":
        this.add("vmm", "end", `refuses: ${event.text}`, "failed");
        return;
      case "died":
        this.add("vmm", "end", `dies: ${event.text}`, "failed");
        return;
    }
  };

  /** The device's log. */
  readonly log = (record: LogRecord): void => {
    const { event, message } = record;
    if (!this.logged.has(event)) this.logged.set(event, record);
    if (!TOLD_EVENTS.has(event)) return;
    // Why a message is refused is often why the session ends.
    if (this.notes.at(-1)?.text === message) this.notes.pop();
    if (event === "translation-mode") this.add("device", "belief", message, "decided");
    else this.add("device", event === "session-end" ? "end" : "message", message);
  };
}

function markOf(text: string): Mark | undefined {
  if (/\b(UPDATE|INVALIDATE)\b/.test(text)) return "iotlb";
  return /^(VHOST_)?SET_FEATURES\b/.test(text) ? "told" : undefined;
}

/** A feature word, and whether bit 33 is in it. */
function described(word: bigint): string {
  const which = has(word, F.ACCESS_PLATFORM) ? "with bit 33" : "without bit 33";
  return `${describeFeatures(word, "vsock")}, ${which}`;
}
