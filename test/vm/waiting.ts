/**
 * Waiting with a limit: a guest that hangs must fail its test, with the logs, instead of the whole run.
 * The limits are far above anything seen; no test measures time with them.
 */
import { setTimeout as sleep } from "node:timers/promises";

export const patienceMs = Number(process.env.BIT33_VM_PATIENCE_MS ?? 60_000);

/** The promise's value, or an error that says what did not happen. */
export async function within<T>(promise: Promise<T>, what: string, limitMs = patienceMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${limitMs / 1000} s`)), limitMs);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again and again until the answer is something other than undefined. */
export async function until<T>(what: string, ask: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > deadline) throw new Error(`${what}: not so within ${patienceMs / 1000} s`);
    await sleep(50);
  }
}
