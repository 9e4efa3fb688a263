/**
 * Names of the feature bits of other device types, so that any vhost-user session can be read. What they mean is not this
 * project's business: vsock alone has records (`vsock-features.ts`).
 *
 * Source: VIRTIO 1.3, the section "Feature bits" of each device; the legacy ones linux include/uapi/linux/virtio_*.h.
 */

/** Names without `VIRTIO_<TYPE>_F_`, by bit. A type without an own bit is there too: it is a type all the same. */
export const DEVICE_FEATURE_NAMES = {
  net: {
    0: "CSUM",
    1: "GUEST_CSUM",
    2: "CTRL_GUEST_OFFLOADS",
    3: "MTU",
    5: "MAC",
    6: "GSO",
    7: "GUEST_TSO4",
    8: "GUEST_TSO6",
    9: "GUEST_ECN",
    10: "GUEST_UFO",
    11: "HOST_TSO4",
    12: "HOST_TSO6",
    13: "HOST_ECN",
    14: "HOST_UFO",
    15: "MRG_RXBUF",
    16: "STATUS",
    17: "CTRL_VQ",
    18: "CTRL_RX",
    19: "CTRL_VLAN",
    20: "CTRL_RX_EXTRA",
    21: "GUEST_ANNOUNCE",
    22: "MQ",
    23: "CTRL_MAC_ADDR",
    51: "HASH_TUNNEL",
    52: "VQ_NOTF_COAL",
    53: "NOTF_COAL",
    54: "GUEST_USO4",
    55: "GUEST_USO6",
    56: "HOST_USO",
    57: "HASH_REPORT",
    59: "GUEST_HDRLEN",
    60: "RSS",
    61: "RSC_EXT",
    62: "STANDBY",
    63: "SPEED_DUPLEX",
  },
  blk: {
    0: "BARRIER",
    1: "SIZE_MAX",
    2: "SEG_MAX",
    4: "GEOMETRY",
    5: "RO",
    6: "BLK_SIZE",
    7: "SCSI",
    9: "FLUSH",
    10: "TOPOLOGY",
    11: "CONFIG_WCE",
    12: "MQ",
    13: "DISCARD",
    14: "WRITE_ZEROES",
    15: "LIFETIME",
    16: "SECURE_ERASE",
    17: "ZONED",
  },
  console: { 0: "SIZE", 1: "MULTIPORT", 2: "EMERG_WRITE" },
  rng: {},
  scsi: { 0: "INOUT", 1: "HOTPLUG", 2: "CHANGE", 3: "T10_PI" },
  gpu: { 0: "VIRGL", 1: "EDID", 2: "RESOURCE_UUID", 3: "RESOURCE_BLOB", 4: "CONTEXT_INIT" },
  input: {},
  crypto: {
    0: "REVISION_1",
    1: "CIPHER_STATELESS_MODE",
    2: "HASH_STATELESS_MODE",
    3: "MAC_STATELESS_MODE",
    4: "AEAD_STATELESS_MODE",
    5: "AKCIPHER_STATELESS_MODE",
  },
  fs: { 0: "NOTIFICATION" },
  i2c: { 0: "ZERO_LENGTH_REQUEST" },
  gpio: { 0: "IRQ" },
} as const satisfies Readonly<Record<string, Readonly<Record<number, string>>>>;

/** The types of this file. */
export type NamedDeviceType = keyof typeof DEVICE_FEATURE_NAMES;
