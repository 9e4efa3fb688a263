/** Random payloads of every kind, for the tests of the codec. Values cover the whole width of each field. */
import fc from "fast-check";
import { MAX_CONFIG_BYTES, MAX_SHMEM_REGIONS, MAX_TABLE_REGIONS } from "./limits.js";
import type { MemRegion, PayloadKind, PayloadOf } from "./payload.js";

export const u8 = fc.integer({ min: 0, max: 0xff });
export const u16 = fc.integer({ min: 0, max: 0xffff });
export const u32 = fc.integer({ min: 0, max: 0xffffffff });
export const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

/** A record with the usual prototype, as the decoders make them. */
function object<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

const plainRegion = object({ guestAddress: u64, size: u64, userAddress: u64, mmapOffset: u64 });
const xenRegion = object({
  guestAddress: u64,
  size: u64,
  userAddress: u64,
  mmapOffset: u64,
  xen: object({ flags: u32, domid: u32 }),
});

const tableOf = (region: fc.Arbitrary<MemRegion>) => fc.array(region, { maxLength: MAX_TABLE_REGIONS });
const is = <K extends PayloadKind>(kind: K): fc.Arbitrary<K> => fc.constant(kind);

/** One arbitrary for each payload kind; all of them decode to an equal value. */
export const PAYLOAD_ARBITRARIES: { readonly [K in PayloadKind]: fc.Arbitrary<PayloadOf<K>> } = {
  none: object({ kind: is("none") }),
  u64: object({ kind: is("u64"), value: u64 }),
  vringState: object({ kind: is("vringState"), index: u32, num: u32 }),
  vringAddr: object({
    kind: is("vringAddr"),
    index: u32,
    flags: u32,
    desc: u64,
    used: u64,
    avail: u64,
    log: u64,
  }),
  vringFd: object({ kind: is("vringFd"), index: u8, noFd: fc.boolean() }),
  memTable: object({ kind: is("memTable"), regions: fc.oneof(tableOf(plainRegion), tableOf(xenRegion)) }),
  memRegion: object({ kind: is("memRegion"), region: fc.oneof(plainRegion, xenRegion) }),
  log: object({ kind: is("log"), size: u64, offset: u64 }),
  iotlb: object({
    kind: is("iotlb"),
    iova: u64,
    size: u64,
    userAddress: u64,
    perm: fc.integer({ min: 0, max: 3 }),
    type: fc.integer({ min: 1, max: 6 }),
  }),
  config: object({
    kind: is("config"),
    offset: u32,
    flags: u32,
    data: fc.uint8Array({ maxLength: MAX_CONFIG_BYTES }),
  }),
  vringArea: object({ kind: is("vringArea"), vring: u64, size: u64, offset: u64 }),
  inflight: object({
    kind: is("inflight"),
    padded: fc.boolean(),
    mmapSize: u64,
    mmapOffset: u64,
    queueCount: u16,
    queueSize: u16,
  }),
  sharedObject: object({
    kind: is("sharedObject"),
    uuid: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  }),
  deviceState: object({ kind: is("deviceState"), direction: u32, phase: u32 }),
  shmemConfig: object({
    kind: is("shmemConfig"),
    regionCount: u32,
    sizes: fc.array(u64, { maxLength: MAX_SHMEM_REGIONS }),
  }),
  shmemMap: object({
    kind: is("shmemMap"),
    shmid: u8,
    fdOffset: u64,
    shmOffset: u64,
    size: u64,
    flags: u64,
  }),
  opaque: object({ kind: is("opaque"), bytes: fc.uint8Array({ maxLength: 512 }) }),
};

/** The kinds, for loops over them. */
export const PAYLOAD_KINDS = Object.keys(PAYLOAD_ARBITRARIES) as PayloadKind[];
