/**
 * Sessions of real QEMUs with a vhost-user-vsock device, as a recording back-end wrote them down: QEMU 7.2.22, 10.0 and
 * 11.1, guest Linux 6.12 with 256 MiB. Trimmed to the control messages: what moved on the rings and the MISSes after
 * the first few are left out, and the session behind a vIOMMU ends there. A session that is here byte for byte is
 * src/vhost/wire/qemu-session.fixture.ts; recordings.ts reads both kinds.
 */

export interface RecordedLines {
  readonly name: string;
  /** The profile that has to do the same. */
  readonly vmm: string;
  readonly iommuPlatform: boolean;
  readonly viommu: boolean;
  /** One message a line: name, NEED_REPLY if it was set, what it said; `=>` the answer; indented, what belongs to it. */
  readonly text: string;
}

export const RECORDED_LINES: readonly RecordedLines[] = [
  {
    name: "QEMU 7.2, plain",
    vmm: "qemu-7.2",
    iommuPlatform: false,
    viommu: false,
    text: `
GET_FEATURES => 0x11f74000003
GET_PROTOCOL_FEATURES => 0x19b62b
SET_PROTOCOL_FEATURES 0x1b62b
GET_QUEUE_NUM => 2
GET_MAX_MEM_SLOTS => 32
SET_BACKEND_REQ_FD NEED_REPLY
SET_OWNER
GET_FEATURES => 0x11f74000003
SET_VRING_CALL q0
SET_VRING_ERR q0
SET_VRING_CALL q1
SET_VRING_ERR q1
GET_CONFIG off=0 size=8 flags=0
SET_VRING_CALL q1
SET_VRING_CALL q0
SET_FEATURES 0x10170000002
GET_STATUS => 0x0
SET_STATUS 0x8
ADD_MEM_REG NEED_REPLY
  region gpa=0x0 size=0x10000000 uaddr=0x7fc8fbfff000 off=0x0
SET_VRING_NUM q0 num=128
SET_VRING_BASE q0 base=0x0
SET_VRING_ADDR q0 flags=0 desc=0x7fc9013de000 used=0x7fc9013de940 avail=0x7fc9013de800
SET_VRING_KICK q0
SET_VRING_NUM q1 num=128
SET_VRING_BASE q1 base=0x0
SET_VRING_ADDR q1 flags=0 desc=0x7fc9013f8000 used=0x7fc9013f8940 avail=0x7fc9013f8800
SET_VRING_KICK q1
SET_VRING_ENABLE q0 enable=1
SET_VRING_ENABLE q1 enable=1
SET_VRING_CALL q0
SET_VRING_CALL q1
SET_VRING_ENABLE q0 enable=0
SET_VRING_ENABLE q1 enable=0
GET_VRING_BASE q0 => base 52
GET_VRING_BASE q1 => base 70
SET_VRING_CALL q1
SET_VRING_CALL q0
`,
  },
  {
    name: "QEMU 7.2, iommu_platform=on without a vIOMMU",
    vmm: "qemu-7.2",
    iommuPlatform: true,
    viommu: false,
    text: `
GET_FEATURES => 0x11f74000003
GET_PROTOCOL_FEATURES => 0x19b62b
SET_PROTOCOL_FEATURES 0x1b62b
GET_QUEUE_NUM => 2
GET_MAX_MEM_SLOTS => 32
SET_BACKEND_REQ_FD NEED_REPLY
SET_OWNER
GET_FEATURES => 0x11f74000003
SET_VRING_CALL q0
SET_VRING_ERR q0
SET_VRING_CALL q1
SET_VRING_ERR q1
GET_CONFIG off=0 size=8 flags=0
SET_VRING_CALL q1
SET_VRING_CALL q0
SET_FEATURES 0x10170000002
GET_STATUS => 0x0
SET_STATUS 0x8
ADD_MEM_REG NEED_REPLY
  region gpa=0x0 size=0x10000000 uaddr=0x7f263ffff000 off=0x0
SET_VRING_NUM q0 num=128
SET_VRING_BASE q0 base=0x0
SET_VRING_ADDR q0 flags=0 desc=0x7f264542e000 used=0x7f264542e940 avail=0x7f264542e800
SET_VRING_KICK q0
SET_VRING_NUM q1 num=128
SET_VRING_BASE q1 base=0x0
SET_VRING_ADDR q1 flags=0 desc=0x7f264542d000 used=0x7f264542d940 avail=0x7f264542d800
SET_VRING_KICK q1
SET_VRING_ENABLE q0 enable=1
SET_VRING_ENABLE q1 enable=1
SET_VRING_CALL q0
SET_VRING_CALL q1
SET_VRING_ENABLE q0 enable=0
SET_VRING_ENABLE q1 enable=0
GET_VRING_BASE q0 => base 52
GET_VRING_BASE q1 => base 71
SET_VRING_CALL q1
SET_VRING_CALL q0
`,
  },
  {
    name: "QEMU 7.2, virtio-iommu, a back-end without bit 33",
    vmm: "qemu-7.2",
    iommuPlatform: true,
    viommu: true,
    text: `
GET_FEATURES => 0x11d74000003
GET_PROTOCOL_FEATURES => 0x19b62b
SET_PROTOCOL_FEATURES 0x1b62b
GET_QUEUE_NUM => 2
GET_MAX_MEM_SLOTS => 32
SET_BACKEND_REQ_FD NEED_REPLY
SET_OWNER
GET_FEATURES => 0x11d74000003
SET_VRING_CALL q0
SET_VRING_ERR q0
SET_VRING_CALL q1
SET_VRING_ERR q1
GET_CONFIG off=0 size=8 flags=0
SET_VRING_CALL q1
SET_VRING_CALL q0
SET_FEATURES 0x10370000002
GET_STATUS => 0x0
SET_STATUS 0x8
ADD_MEM_REG NEED_REPLY
  region gpa=0x0 size=0x10000000 uaddr=0x7f5d6bfff000 off=0x0
SET_VRING_NUM q0 num=128
SET_VRING_BASE q0 base=0x0
SET_VRING_ADDR q0 flags=0 desc=0xfffff000 used=0xfffff940 avail=0xfffff800
SET_VRING_KICK q0
SET_VRING_NUM q1 num=128
SET_VRING_BASE q1 base=0x0
SET_VRING_ADDR q1 flags=0 desc=0xffffe000 used=0xffffe940 avail=0xffffe800
SET_VRING_KICK q1
SET_VRING_ENABLE q0 enable=1
SET_VRING_ENABLE q1 enable=1
  -> BACKEND IOTLB_MSG MISS iova=0xffffe802 perm=1
IOTLB_MSG NEED_REPLY UPDATE iova=0xfffff000 size=0x1000 uaddr=0x7f5d71334000 perm=3
IOTLB_MSG NEED_REPLY UPDATE iova=0xffffe000 size=0x1000 uaddr=0x7f5d7146d000 perm=3
SET_VRING_CALL q0
SET_VRING_CALL q1
IOTLB_MSG NEED_REPLY UPDATE iova=0xffffe000 size=0x1000 uaddr=0x7f5d7146d000 perm=3
  -> BACKEND IOTLB_MSG MISS iova=0xfff74780 perm=1
IOTLB_MSG NEED_REPLY UPDATE iova=0xfff74000 size=0x1000 uaddr=0x7f5d70a39000 perm=3
  -> BACK
`,
  },
  {
    name: "QEMU 7.2, virtio-iommu, a back-end with CONFIG alone",
    vmm: "qemu-7.2",
    iommuPlatform: true,
    viommu: true,
    text: `
GET_FEATURES => 0x11d74000003
GET_PROTOCOL_FEATURES => 0x200
SET_PROTOCOL_FEATURES 0x200
SET_OWNER
GET_FEATURES => 0x11d74000003
SET_VRING_CALL q0
SET_VRING_ERR q0
SET_VRING_CALL q1
SET_VRING_ERR q1
GET_CONFIG off=0 size=8 flags=0
SET_VRING_CALL q1
SET_VRING_CALL q0
SET_FEATURES 0x10370000002
SET_MEM_TABLE nregions=1
  region gpa=0x0 size=0x10000000 uaddr=0x7fd7cffff000 off=0x0
SET_VRING_NUM q0 num=128
SET_VRING_BASE q0 base=0x0
SET_VRING_ADDR q0 flags=0 desc=0xfffff000 used=0xfffff940 avail=0xfffff800
SET_VRING_KICK q0
SET_VRING_NUM q1 num=128
SET_VRING_BASE q1 base=0x0
SET_VRING_ADDR q1 flags=0 desc=0xffffe000 used=0xffffe940 avail=0xffffe800
SET_VRING_KICK q1
SET_VRING_ENABLE q0 enable=1
SET_VRING_ENABLE q1 enable=1
IOTLB_MSG NEED_REPLY UPDATE iova=0xfffff000 size=0x1000 uaddr=0x7fd7d535a000 perm=3
IOTLB_MSG NEED_REPLY UPDATE iova=0xffffe000 size=0x1000 uaddr=0x7fd7d4ca5000 perm=3
SET_VRING_CALL q0
SET_VRING_CALL q1
SET_VRING_ENABLE q0 enable=0
SET_VRING_ENABLE q1 enable=0
GET_VRING_BASE q0 => base 0
GET_VRING_BASE q1 => base 0
SET_VRING_CALL q1
SET_VRING_CALL q0
`,
  },
  {
    name: "QEMU 10.0, plain",
    vmm: "qemu-10.0",
    iommuPlatform: false,
    viommu: false,
    text: `
GET_FEATURES => 0x11f74000003
GET_PROTOCOL_FEATURES => 0x19b62b
SET_PROTOCOL_FEATURES 0x9b62b
GET_QUEUE_NUM => 2
GET_MAX_MEM_SLOTS => 32
SET_BACKEND_REQ_FD NEED_REPLY
SET_OWNER
GET_FEATURES => 0x11f74000003
SET_VRING_CALL q0
SET_VRING_ERR q0
SET_VRING_CALL q1
SET_VRING_ERR q1
GET_CONFIG off=0 size=8 flags=0
RESET_DEVICE
RESET_DEVICE
SET_VRING_CALL q1
SET_VRING_CALL q0
SET_FEATURES 0x10170000002
GET_STATUS => 0x0
SET_STATUS 0x8
ADD_MEM_REG NEED_REPLY
  region gpa=0x0 size=0x10000000 uaddr=0x7fd3fffff000 off=0x0
SET_VRING_NUM q0 num=128
SET_VRING_BASE q0 base=0x0
SET_VRING_ADDR q0 flags=0 desc=0x7fd405416000 used=0x7fd405416940 avail=0x7fd405416800
SET_VRING_KICK q0
SET_VRING_NUM q1 num=128
SET_VRING_BASE q1 base=0x0
SET_VRING_ADDR q1 flags=0 desc=0x7fd405415000 used=0x7fd405415940 avail=0x7fd405415800
SET_VRING_KICK q1
SET_VRING_ENABLE NEED_REPLY q0 enable=1
SET_VRING_ENABLE NEED_REPLY q1 enable=1
SET_VRING_CALL q0
SET_VRING_CALL q1
SET_VRING_ENABLE NEED_REPLY q0 enable=0
SET_VRING_ENABLE NEED_REPLY q1 enable=0
GET_VRING_BASE q0 => base 52
GET_VRING_BASE q1 => base 70
SET_VRING_CALL q1
SET_VRING_CALL q0
RESET_DEVICE
`,
  },
  {
    name: "QEMU 11.1, intel-iommu in its lazy default",
    vmm: "qemu-10.0",
    iommuPlatform: true,
    viommu: true,
    text: `
GET_FEATURES => 0x11f74000003
GET_PROTOCOL_FEATURES => 0x19b62b
SET_PROTOCOL_FEATURES 0x9b62b
GET_QUEUE_NUM => 2
GET_MAX_MEM_SLOTS => 32
SET_BACKEND_REQ_FD NEED_REPLY
SET_OWNER
GET_FEATURES => 0x11f74000003
SET_VRING_CALL NEED_REPLY q0
SET_VRING_ERR NEED_REPLY q0
SET_VRING_CALL NEED_REPLY q1
SET_VRING_ERR NEED_REPLY q1
GET_CONFIG off=0 size=8 flags=0
RESET_DEVICE
RESET_DEVICE
SET_VRING_CALL NEED_REPLY q1
SET_VRING_CALL NEED_REPLY q0
SET_FEATURES 0x10370000002
GET_STATUS => 0x0
SET_STATUS 0x8
ADD_MEM_REG NEED_REPLY
  region gpa=0x0 size=0x10000000 uaddr=0x7f59cffff000 off=0x0
SET_VRING_NUM q0 num=128
SET_VRING_BASE q0 base=0x0
SET_VRING_ADDR q0 flags=0 desc=0xfffff000 used=0xfffff940 avail=0xfffff800
SET_VRING_KICK NEED_REPLY q0
SET_VRING_NUM q1 num=128
SET_VRING_BASE q1 base=0x0
SET_VRING_ADDR q1 flags=0 desc=0xffffe000 used=0xffffe940 avail=0xffffe800
SET_VRING_KICK NEED_REPLY q1
SET_VRING_ENABLE NEED_REPLY q0 enable=1
SET_VRING_ENABLE NEED_REPLY q1 enable=1
  -> BACKEND IOTLB_MSG MISS iova=0xffffe802 perm=1
IOTLB_MSG NEED_REPLY UPDATE iova=0xfffff000 size=0x1000 uaddr=0x7f59d5659000 perm=3
IOTLB_MSG NEED_REPLY UPDATE iova=0xffffe000 size=0x1000 uaddr=0x7f59d55a8000 perm=3
SET_VRING_CALL NEED_REPLY q0
SET_VRING_CALL NEED_REPLY q1
IOTLB_MSG NEED_REPLY UPDATE iova=0xffffe000 size=0x1000 uaddr=0x7f59d55a8000 perm=3
  -> BACKEND IOTLB_MSG MISS iova=0xfff74000 perm=1
IOTLB_MSG NEED_REPLY UPDATE iova=0xfff74000 size=0x1000 uaddr=0x7f59d4c39000 perm=3
`,
  },
];
