/**
 * The payloads of vhost-user: one tagged value for each kind, with its encoder and decoder side by side.
 *
 * A decoder takes exactly the payload's bytes and returns the value or what is wrong; it never throws. An
 * encoder is given values that we made, so a value that does not fit is our mistake and throws. Which message
 * carries which kind is in messages.ts.
 */
import { type Decoded, decodeStruct, encodeStruct, type Layout, viewOf } from "../../virtio/index.js";
import type { WireErrorCode } from "./error.js";
import * as L from "./layouts.js";
import { MAX_CONFIG_BYTES, MAX_SHMEM_REGIONS, MAX_TABLE_REGIONS } from "./limits.js";

/** One memory region; `xen` is there under XEN_MMAP only. */
export interface MemRegion extends Decoded<typeof L.MEM_REGION> {
  readonly xen?: Decoded<typeof L.XEN_REGION_TAIL>;
}

/** Direction of an IOTLB message and access that it is about: the fields of struct vhost_iotlb_msg. */
export type IotlbMessage = Decoded<typeof L.IOTLB>;

/** Values of the IOTLB message's `type` (linux include/uapi/linux/vhost_types.h). */
export const IOTLB_TYPE = {
  /** Back-end to front-end: no mapping for this address. */
  MISS: 1,
  /** Front-end to back-end: map. */
  UPDATE: 2,
  /** Front-end to back-end: unmap. */
  INVALIDATE: 3,
  /** Back-end to front-end: mapped, but not for this access. */
  ACCESS_FAIL: 4,
  /** Kernel vhost-vdpa only. */
  BATCH_BEGIN: 5,
  /** Kernel vhost-vdpa only. */
  BATCH_END: 6,
} as const;

/** Values of the IOTLB message's `perm`. */
export const IOTLB_PERM = { none: 0, read: 1, write: 2, readWrite: 3 } as const;

/** The `flags` bit of SET_VRING_ADDR: log writes to the used ring (VHOST_VRING_F_LOG). */
export const VRING_FLAG_LOG = 1;

/** Values of the config message's `flags`. Peers disagree: rust-vmm, crosvm and CH use 1 for writable. */
export const CONFIG_FLAG = { writable: 0, migration: 1 } as const;

/** The payload of a message, decoded. Numbers of 64 bits are bigints. */
export type Payload =
  | { readonly kind: "none" }
  | { readonly kind: "u64"; readonly value: bigint }
  | ({ readonly kind: "vringState" } & Decoded<typeof L.VRING_STATE>)
  | ({ readonly kind: "vringAddr" } & Decoded<typeof L.VRING_ADDR>)
  /** The u64 of SET_VRING_KICK, _CALL and _ERR: ring index, and whether no descriptor comes with it. */
  | { readonly kind: "vringFd"; readonly index: number; readonly noFd: boolean }
  | { readonly kind: "memTable"; readonly regions: readonly MemRegion[] }
  | { readonly kind: "memRegion"; readonly region: MemRegion }
  | ({ readonly kind: "log" } & Decoded<typeof L.LOG>)
  | ({ readonly kind: "iotlb" } & IotlbMessage)
  /** `data` holds exactly the bytes at `offset`; its length is the message's own size field. */
  | { readonly kind: "config"; readonly offset: number; readonly flags: number; readonly data: Uint8Array }
  | ({ readonly kind: "vringArea" } & Decoded<typeof L.VRING_AREA>)
  /** `padded`: 24 bytes instead of 20. A reply repeats what the request had. */
  | ({ readonly kind: "inflight"; readonly padded: boolean } & Decoded<typeof L.INFLIGHT>)
  | ({ readonly kind: "sharedObject" } & Decoded<typeof L.SHARED_OBJECT>)
  | ({ readonly kind: "deviceState" } & Decoded<typeof L.DEVICE_STATE>)
  /** Sizes by shared memory region id; `regionCount` of them are not zero. */
  | { readonly kind: "shmemConfig"; readonly regionCount: number; readonly sizes: readonly bigint[] }
  | ({ readonly kind: "shmemMap" } & Decoded<typeof L.SHMEM_MAP>)
  /** Bytes that nobody here interprets: other device types' messages. */
  | { readonly kind: "opaque"; readonly bytes: Uint8Array };

/** The tag of a payload. */
export type PayloadKind = Payload["kind"];

/** The payload with a given tag. */
export type PayloadOf<K extends PayloadKind> = Extract<Payload, { kind: K }>;

/** What is wrong with a payload; `offset` counts from its first byte. */
export interface PayloadFault {
  readonly fault: WireErrorCode;
  readonly message: string;
  readonly offset: number;
}

interface Codec<K extends PayloadKind> {
  decode(bytes: Uint8Array): PayloadOf<K> | PayloadFault;
  encode(payload: PayloadOf<K>): Uint8Array;
}

function fault(code: WireErrorCode, message: string, offset = 0): PayloadFault {
  return { fault: code, message, offset };
}

function sizeFault(expected: string, bytes: Uint8Array): PayloadFault {
  return fault("payload-size", `payload of ${bytes.byteLength} bytes where ${expected} are due`);
}

/** The bytes of one structure. */
function pack<T extends Layout>(layout: T, value: Decoded<T>): Uint8Array {
  const bytes = new Uint8Array(layout.byteLength);
  encodeStruct(layout, value, viewOf(bytes), 0);
  return bytes;
}

/** A codec for a kind that is one structure and nothing else. */
function structCodec<K extends PayloadKind, T extends Layout>(
  kind: K,
  layout: T,
  check: (value: Decoded<T>) => PayloadFault | undefined = () => undefined,
): Codec<K> {
  return {
    decode(bytes) {
      if (bytes.byteLength !== layout.byteLength) return sizeFault(String(layout.byteLength), bytes);
      const value = decodeStruct(layout, viewOf(bytes), 0);
      return check(value) ?? ({ kind, ...value } as unknown as PayloadOf<K>);
    },
    encode: (payload) => pack(layout, payload as unknown as Decoded<T>),
  };
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

const none: Codec<"none"> = {
  decode: (bytes) => (bytes.byteLength === 0 ? { kind: "none" } : sizeFault("none", bytes)),
  encode: () => new Uint8Array(0),
};

const opaque: Codec<"opaque"> = {
  decode: (bytes) => ({ kind: "opaque", bytes: bytes.slice() }),
  encode: (payload) => payload.bytes,
};

// "Bits (0-7) of the payload contain the vring index. Bit 8 is the invalid FD flag." (vhost-user,
// VHOST_USER_SET_VRING_KICK.) The other bits are unassigned: ignored here, zero when we send.
const vringFd: Codec<"vringFd"> = {
  decode(bytes) {
    if (bytes.byteLength !== L.U64.byteLength) return sizeFault(String(L.U64.byteLength), bytes);
    const { value } = decodeStruct(L.U64, viewOf(bytes), 0);
    return { kind: "vringFd", index: Number(value & 0xffn), noFd: (value & 0x100n) !== 0n };
  },
  encode({ index, noFd }) {
    if (!Number.isInteger(index) || index < 0 || index > 0xff) {
      throw new RangeError(`vring index ${index} does not fit 8 bits`);
    }
    return pack(L.U64, { value: BigInt(index) | (noFd ? 0x100n : 0n) });
  },
};

const REGION = L.MEM_REGION.byteLength;
const XEN_REGION = REGION + L.XEN_REGION_TAIL.byteLength;

function decodeRegion(view: DataView, base: number, withXen: boolean): MemRegion {
  const region = decodeStruct(L.MEM_REGION, view, base);
  return withXen ? { ...region, xen: decodeStruct(L.XEN_REGION_TAIL, view, base + REGION) } : region;
}

function encodeRegion(region: MemRegion): Uint8Array {
  const bytes = pack(L.MEM_REGION, region);
  return region.xen === undefined ? bytes : concat(bytes, pack(L.XEN_REGION_TAIL, region.xen));
}

// Whether regions have the Xen tail follows from the size, so no negotiated state is needed to decode.
const memTable: Codec<"memTable"> = {
  decode(bytes) {
    const head = L.MEM_TABLE_HEAD.byteLength;
    if (bytes.byteLength < head) return sizeFault(`at least ${head}`, bytes);
    const view = viewOf(bytes);
    const { regionCount } = decodeStruct(L.MEM_TABLE_HEAD, view, 0);
    if (regionCount > MAX_TABLE_REGIONS) {
      return fault(
        "too-many-regions",
        `${regionCount} regions in one table; at most ${MAX_TABLE_REGIONS} are taken`,
      );
    }
    const body = bytes.byteLength - head;
    const withXen = regionCount > 0 && body === regionCount * XEN_REGION;
    if (!withXen && body !== regionCount * REGION) {
      return sizeFault(`${head + regionCount * REGION} (${regionCount} regions)`, bytes);
    }
    const width = withXen ? XEN_REGION : REGION;
    const regions = Array.from({ length: regionCount }, (_, n) =>
      decodeRegion(view, head + n * width, withXen),
    );
    return { kind: "memTable", regions };
  },
  encode({ regions }) {
    return concat(pack(L.MEM_TABLE_HEAD, { regionCount: regions.length }), ...regions.map(encodeRegion));
  },
};

const memRegion: Codec<"memRegion"> = {
  decode(bytes) {
    const head = L.SINGLE_REGION_HEAD.byteLength;
    const withXen = bytes.byteLength === head + XEN_REGION;
    if (!withXen && bytes.byteLength !== head + REGION) return sizeFault(String(head + REGION), bytes);
    return { kind: "memRegion", region: decodeRegion(viewOf(bytes), head, withXen) };
  },
  encode: ({ region }) => concat(new Uint8Array(L.SINGLE_REGION_HEAD.byteLength), encodeRegion(region)),
};

/** Byte offsets of the two fields of an IOTLB message that can hold a wrong value. */
const IOTLB_OFFSET = { perm: 24, type: 25 } as const;

// "permissions flags: 0 … 3", "type: 1 … 4" (vhost-user, An IOTLB message). QEMU sends whatever was on its
// stack as the permission of an INVALIDATE, so the permission is looked at only where it means something.
function checkIotlb({ perm, type }: IotlbMessage): PayloadFault | undefined {
  if (type < IOTLB_TYPE.MISS || type > IOTLB_TYPE.BATCH_END) {
    return fault("payload-value", `IOTLB message type ${type} is unknown`, IOTLB_OFFSET.type);
  }
  const carriesPerm =
    type === IOTLB_TYPE.MISS || type === IOTLB_TYPE.UPDATE || type === IOTLB_TYPE.ACCESS_FAIL;
  if (carriesPerm && perm > IOTLB_PERM.readWrite) {
    return fault("payload-value", `IOTLB permission ${perm} is unknown`, IOTLB_OFFSET.perm);
  }
  return undefined;
}

const config: Codec<"config"> = {
  decode(bytes) {
    const head = L.CONFIG_HEAD.byteLength;
    if (bytes.byteLength < head) return sizeFault(`at least ${head}`, bytes);
    const { offset, size, flags } = decodeStruct(L.CONFIG_HEAD, viewOf(bytes), 0);
    const dataBytes = bytes.byteLength - head;
    const sizeOffset = 4;
    if (size !== dataBytes) {
      return fault("config-size", `config size ${size} with ${dataBytes} bytes of data`, sizeOffset);
    }
    if (size > MAX_CONFIG_BYTES) {
      return fault("config-size", `config size ${size}; at most ${MAX_CONFIG_BYTES} is taken`, sizeOffset);
    }
    return { kind: "config", offset, flags, data: bytes.slice(head) };
  },
  encode: ({ offset, flags, data }) =>
    concat(pack(L.CONFIG_HEAD, { offset, size: data.byteLength, flags }), data),
};

const inflight: Codec<"inflight"> = {
  decode(bytes) {
    const padded = bytes.byteLength === L.INFLIGHT_PADDED_BYTES;
    if (!padded && bytes.byteLength !== L.INFLIGHT.byteLength) {
      return sizeFault(`${L.INFLIGHT.byteLength} or ${L.INFLIGHT_PADDED_BYTES}`, bytes);
    }
    return { kind: "inflight", padded, ...decodeStruct(L.INFLIGHT, viewOf(bytes), 0) };
  },
  encode(payload) {
    const bytes = pack(L.INFLIGHT, payload);
    if (!payload.padded) return bytes;
    return concat(bytes, new Uint8Array(L.INFLIGHT_PADDED_BYTES - L.INFLIGHT.byteLength));
  },
};

const shmemConfig: Codec<"shmemConfig"> = {
  decode(bytes) {
    const head = L.SHMEM_CONFIG_HEAD.byteLength;
    const body = bytes.byteLength - head;
    if (body < 0 || body % 8 !== 0 || body > MAX_SHMEM_REGIONS * 8)
      return sizeFault("8 + 8 × regions", bytes);
    const view = viewOf(bytes);
    const { regionCount } = decodeStruct(L.SHMEM_CONFIG_HEAD, view, 0);
    const sizes = Array.from(
      { length: body / 8 },
      (_, id) => decodeStruct(L.U64, view, head + id * L.U64.byteLength).value,
    );
    return { kind: "shmemConfig", regionCount, sizes };
  },
  encode({ regionCount, sizes }) {
    return concat(
      pack(L.SHMEM_CONFIG_HEAD, { regionCount }),
      ...sizes.map((value) => pack(L.U64, { value })),
    );
  },
};

const CODECS: { readonly [K in PayloadKind]: Codec<K> } = {
  none,
  opaque,
  vringFd,
  memTable,
  memRegion,
  config,
  inflight,
  shmemConfig,
  u64: structCodec("u64", L.U64),
  vringState: structCodec("vringState", L.VRING_STATE),
  vringAddr: structCodec("vringAddr", L.VRING_ADDR),
  log: structCodec("log", L.LOG),
  iotlb: structCodec("iotlb", L.IOTLB, checkIotlb),
  vringArea: structCodec("vringArea", L.VRING_AREA),
  sharedObject: structCodec("sharedObject", L.SHARED_OBJECT),
  deviceState: structCodec("deviceState", L.DEVICE_STATE),
  shmemMap: structCodec("shmemMap", L.SHMEM_MAP),
};

/** Decodes exactly these bytes as a payload of the given kind. Keeps no reference to them. */
export function decodePayload<K extends PayloadKind>(
  kind: K,
  bytes: Uint8Array,
): PayloadOf<K> | PayloadFault {
  return CODECS[kind].decode(bytes) as PayloadOf<K> | PayloadFault;
}

/** The bytes of a payload. Throws RangeError for a value that does not fit its field: our mistake. */
export function encodePayload(payload: Payload): Uint8Array {
  const codec = CODECS[payload.kind] as unknown as { encode(value: Payload): Uint8Array };
  return codec.encode(payload);
}

/** Whether decoding failed. */
export function isFault(outcome: Payload | PayloadFault): outcome is PayloadFault {
  return "fault" in outcome;
}
