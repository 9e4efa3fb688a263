/**
 * The vIOMMU of a VMM, as its device sees it: answers a MISS from the guest's tables with an UPDATE for the page, and
 * sends an INVALIDATE for what the guest takes back, waiting for the answer before the guest goes on (QEMU:
 * `vhost_device_iotlb_miss`, `vhost_iommu_unmap_notify`). Must not know how a message reaches the device.
 */
import type { IoTranslations } from "../guest/io-page-table.js";
import type { IotlbMessage } from "../vhost/wire/index.js";
import type { UserAddresses } from "./user-addresses.js";

const PAGE_BYTES = 4096n;

/** The device's IOTLB. */
export interface RemoteIotlb {
  /** True if the device took it. */
  update(iova: bigint, bytes: bigint, userAddress: bigint, perm: number): boolean;
  /** Returns once the device does not use the range any more. */
  invalidate(iova: bigint, bytes: bigint): void;
}

export class IotlbServer {
  updates = 0;
  invalidations = 0;
  /** MISSes for what the guest has not mapped, or not for that access. */
  unanswered = 0;

  constructor(
    private readonly remote: RemoteIotlb,
    private readonly translations: IoTranslations,
    private readonly users: UserAddresses,
  ) {}

  /** True if an UPDATE was sent and taken. */
  miss({ iova, perm }: Pick<IotlbMessage, "iova" | "perm">): boolean {
    const pageIova = iova - (iova % PAGE_BYTES);
    const page = this.translations.lookup(pageIova);
    const user = page === undefined ? -1 : this.users.ofGpa(page.gpa, Number(PAGE_BYTES));
    if (page === undefined || user < 0 || (page.access & perm) !== perm) {
      this.unanswered++;
      return false;
    }
    this.updates++;
    return this.remote.update(pageIova, PAGE_BYTES, BigInt(user), page.access);
  }

  invalidate(iova: bigint, bytes: bigint): void {
    this.invalidations++;
    this.remote.invalidate(iova, bytes);
  }
}
