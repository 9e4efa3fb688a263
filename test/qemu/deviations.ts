/**
 * Where our player knowingly says something else than a recorded QEMU, each with its reason. Data: the test puts
 * `played` in the place of `recorded` in the recording, and every deviation has to be found where it is said to be.
 */
import type { Conversation } from "./conversation.js";

export interface Deviation {
  readonly reason: string;
  /** In recordings with this in their names. */
  readonly of: string;
  readonly part: keyof Conversation;
  readonly recorded: readonly string[];
  readonly played: readonly string[];
}

export const DEVIATIONS: readonly Deviation[] = [
  {
    reason:
      "QEMU masks the interrupts of the last queue first; the player goes through its queues in their order",
    of: "QEMU 7.2",
    part: "before",
    recorded: ["SET_VRING_CALL q1", "SET_VRING_CALL q0"],
    played: ["SET_VRING_CALL q0", "SET_VRING_CALL q1"],
  },
  {
    reason: "the same, by a version that waits for every answer",
    of: "QEMU 11.1",
    part: "before",
    recorded: ["SET_VRING_CALL NEED_REPLY q1", "SET_VRING_CALL NEED_REPLY q0"],
    played: ["SET_VRING_CALL q0", "SET_VRING_CALL q1"],
  },
  {
    reason:
      "QEMU reads the configuration itself before it resets the machine, and the firmware resets the device once more; the player has no firmware, and reads it for the guest",
    of: "QEMU 10.0",
    part: "before",
    recorded: [
      "GET_CONFIG off=0 size=8 flags=0",
      "RESET_DEVICE",
      "RESET_DEVICE",
      "SET_VRING_CALL q1",
      "SET_VRING_CALL q0",
    ],
    played: ["RESET_DEVICE", "GET_CONFIG off=0 size=8 flags=0", "SET_VRING_CALL q0", "SET_VRING_CALL q1"],
  },
  {
    reason: "the same",
    of: "QEMU 11.1",
    part: "before",
    recorded: ["GET_CONFIG off=0 size=8 flags=0", "RESET_DEVICE", "RESET_DEVICE"],
    played: ["RESET_DEVICE", "GET_CONFIG off=0 size=8 flags=0"],
  },
  ...["SET_VRING_CALL", "SET_VRING_ERR"].flatMap((name) =>
    ["q0", "q1"].map(
      (queue): Deviation => ({
        reason: "QEMU 11.1 waits for the answer to messages with a descriptor; it has no profile of its own",
        of: "QEMU 11.1",
        part: "before",
        recorded: [`${name} NEED_REPLY ${queue}`],
        played: [`${name} ${queue}`],
      }),
    ),
  ),
  ...["SET_VRING_KICK", "SET_VRING_CALL"].flatMap((name) =>
    ["q0", "q1"].map(
      (queue): Deviation => ({
        reason: "QEMU 11.1 waits for the answer to messages with a descriptor; it has no profile of its own",
        of: "QEMU 11.1",
        part: "start",
        recorded: [`${name} NEED_REPLY ${queue}`],
        played: [`${name} ${queue}`],
      }),
    ),
  ),
  {
    reason:
      "QEMU takes the guest's interrupts away once the rings have stopped; the player's device is closed then",
    of: "QEMU 7.2",
    part: "stop",
    recorded: ["SET_VRING_CALL q1", "SET_VRING_CALL q0"],
    played: [],
  },
  {
    reason: "the same, and QEMU 10.0 resets a device that has stopped",
    of: "QEMU 10.0",
    part: "stop",
    recorded: ["SET_VRING_CALL q1", "SET_VRING_CALL q0", "RESET_DEVICE"],
    played: [],
  },
];

/** The recording as our player is expected to say it. */
export function expected(name: string, part: keyof Conversation, said: readonly string[]): readonly string[] {
  let lines = said;
  for (const deviation of DEVIATIONS) {
    if (!name.includes(deviation.of) || deviation.part !== part || lines.length === 0) continue;
    const at = lines.findIndex((_line, index) =>
      deviation.recorded.every((each, offset) => lines[index + offset] === each),
    );
    if (at < 0) throw new Error(`${name}: not found, though it is said to be there: ${deviation.reason}`);
    lines = [...lines.slice(0, at), ...deviation.played, ...lines.slice(at + deviation.recorded.length)];
  }
  return lines;
}
