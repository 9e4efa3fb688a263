/** The time of frames: CLOCK_REALTIME as it was when the relay began, counted on by the monotonic clock. */

export interface Clock {
  nowNs(): bigint;
}

export function wallClock(): Clock {
  const offsetNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
  return { nowNs: () => offsetNs + process.hrtime.bigint() };
}
