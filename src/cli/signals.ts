/**
 * The signals that ask the program to end: SIGTERM from whoever manages it, SIGINT from a keyboard.
 */

const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** Resolves with the first. A second, sent by somebody who will not wait, kills as it always does. */
export function waitForStopSignal(): Promise<string> {
  return new Promise((resolve) => {
    const stop = (signal: string) => {
      for (const each of STOP_SIGNALS) process.removeListener(each, stop);
      resolve(signal);
    };
    for (const each of STOP_SIGNALS) process.on(each, stop);
  });
}
