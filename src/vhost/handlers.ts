/**
 * Which message is obeyed by what: the whole of the protocol that this back-end implements, as data. A message that
 * is not in the table is refused. Whether a message is legal now is in wire/messages.ts (gates); the exceptions that
 * this back-end makes are here.
 */

import type { Handler } from "./answer.js";
import { getConfig, getStatus, resetDevice, setConfig, setStatus } from "./device-messages.js";
import {
  getFeatures,
  getProtocolFeatures,
  getQueueNum,
  resetOwner,
  setFeatures,
  setOwner,
  setProtocolFeatures,
} from "./feature-messages.js";
import { getInflightFd, setInflightFd } from "./inflight-messages.js";
import { iotlbMessage, setBackendReqFd } from "./iotlb-messages.js";
import { setLogBase, setLogFd } from "./log-messages.js";
import { addMemReg, getMaxMemSlots, remMemReg, setMemTable } from "./memory-messages.js";
import {
  getVringBase,
  setVringAddr,
  setVringBase,
  setVringCall,
  setVringEnable,
  setVringErr,
  setVringKick,
  setVringNum,
} from "./ring-messages.js";
import { checkDeviceState, setDeviceStateFd } from "./state-messages.js";
import type { FrontendMessageName } from "./wire/index.js";

export const HANDLERS: Readonly<Partial<Record<FrontendMessageName, Handler>>> = {
  GET_FEATURES: getFeatures,
  SET_FEATURES: setFeatures,
  SET_OWNER: setOwner,
  RESET_OWNER: resetOwner,
  SET_MEM_TABLE: setMemTable,
  SET_LOG_BASE: setLogBase,
  SET_LOG_FD: setLogFd,
  SET_VRING_NUM: setVringNum,
  SET_VRING_ADDR: setVringAddr,
  SET_VRING_BASE: setVringBase,
  GET_VRING_BASE: getVringBase,
  SET_VRING_KICK: setVringKick,
  SET_VRING_CALL: setVringCall,
  SET_VRING_ERR: setVringErr,
  GET_PROTOCOL_FEATURES: getProtocolFeatures,
  SET_PROTOCOL_FEATURES: setProtocolFeatures,
  GET_QUEUE_NUM: getQueueNum,
  SET_VRING_ENABLE: setVringEnable,
  SET_BACKEND_REQ_FD: setBackendReqFd,
  IOTLB_MSG: iotlbMessage,
  GET_CONFIG: getConfig,
  SET_CONFIG: setConfig,
  RESET_DEVICE: resetDevice,
  GET_MAX_MEM_SLOTS: getMaxMemSlots,
  ADD_MEM_REG: addMemReg,
  REM_MEM_REG: remMemReg,
  SET_STATUS: setStatus,
  GET_STATUS: getStatus,
  GET_INFLIGHT_FD: getInflightFd,
  SET_INFLIGHT_FD: setInflightFd,
  SET_DEVICE_STATE_FD: setDeviceStateFd,
  CHECK_DEVICE_STATE: checkDeviceState,
};

/**
 * Messages that are obeyed whether or not their gate holds. Questions change nothing, and a front-end that asks too
 * early would wait for an answer for ever; IOTLB_MSG is for the translation mode to judge, not for bit 33.
 */
export const UNGATED: ReadonlySet<string> = new Set<FrontendMessageName>([
  "GET_PROTOCOL_FEATURES",
  "GET_QUEUE_NUM",
  "GET_CONFIG",
  "GET_MAX_MEM_SLOTS",
  "GET_STATUS",
  "IOTLB_MSG",
]);
