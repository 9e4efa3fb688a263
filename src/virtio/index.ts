/** The public surface of src/virtio: feature bits, device status, what vsock adds, and binary layouts. */
export {
  type AcknowledgeJudgement,
  describeVerdict,
  judgeAcknowledged,
  UNOFFERED_RULES,
  type UnofferedDecision,
  type UnofferedRule,
  type UnofferedVerdict,
  unofferedRule,
} from "./acknowledge.js";
export { BACKEND_F, BACKEND_FEATURES } from "./backend-features.js";
export { bitsOf, FEATURE_WORD_BITS, has, hex, mask, maskOf, without } from "./bits.js";
export {
  type Decoded,
  decodeStruct,
  defineLayout,
  encodeStruct,
  type FieldSpec,
  type Layout,
  layoutFaults,
  viewOf,
} from "./layout.js";
export { featuresNamed, nearNames, wholeName } from "./names.js";
export {
  DEFAULT_EXPLICIT_IOTLB_BIT,
  EXPLICIT_IOTLB_NAME,
  explicitIotlbBitProblem,
  explicitIotlbRecord,
  PROTOCOL_F,
  PROTOCOL_FEATURES,
} from "./protocol-features.js";
export type { FeatureRecord, FeatureTable } from "./record.js";
export {
  backendFeature,
  backendFeatures,
  DEVICE_TYPES,
  type DeviceType,
  describeFeatures,
  describeProtocolFeatures,
  featureName,
  type NamedFeature,
  protocolFeature,
  protocolFeatures,
  virtioFeature,
  virtioFeatures,
} from "./registry.js";
export { describeStatus, STATUS } from "./status.js";
export { F, TRANSPORT_FEATURES } from "./transport-features.js";
export {
  encodeVsockConfig,
  GUEST_CIDS,
  guestCidProblem,
  VSOCK_CONFIG,
  VSOCK_F,
  VSOCK_FEATURES,
  VSOCK_QUEUE,
  VSOCK_QUEUE_COUNT,
} from "./vsock-features.js";
