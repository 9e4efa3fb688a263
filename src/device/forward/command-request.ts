/** What a device says of a command that shall run for a connection of its guest. Crosses threads and processes. */
export interface CommandRequest {
  /** Of this device; never used again. */
  readonly id: number;
  /** Says which command: the one that this port is forwarded to. */
  readonly hostPort: number;
  readonly guestPort: number;
}

/** Processes of one VM at a time: a guest opens connections as it likes, and each is a process of the host's. Our choice. */
export const MOST_COMMANDS = 64;
