/**
 * Eventfds: the doorbells between a VMM, its guest and a device. A counter that is written to wake a reader.
 */
import { checked, orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { Scratch } from "./scratch.js";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

// Two words of their own: the value 1 that every signal writes, and a place that drained counters are read to.
const words = new Scratch(16);
words.data.setBigUint64(0, 1n, true);
const ONE = words.address;
const SINK = words.address + 8;

/** Creates a non-blocking eventfd with counter 0. */
export function createEventfd(): number {
  return checked(libcCalls.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
}

/** Adds one to the counter. Returns `-errno` on failure; -EAGAIN means the counter is full, so a wake-up is due anyway. */
export function signalEventfd(fd: number): number {
  return orErrno(libcCalls.write(fd, ONE, 8));
}

/** Takes the counter's value: 8 when it was not zero, -EAGAIN when it was (non-blocking descriptors). */
export function drainEventfd(fd: number): number {
  return orErrno(libcCalls.read(fd, SINK, 8));
}
