/**
 * The vIOMMU of a VMM, as its device sees it: answers a MISS from the guest's tables with an UPDATE for the page, and
 * sends an INVALIDATE for what the guest takes back, waiting for the answer before the guest goes on (QEMU:
 * `vhost_device_iotlb_miss`, `vhost_iommu_unmap_notify`).
 */
import type { Viommu } from "../guest/platform.js";
import type { FrontEndSession } from "../vhost/front-end-session.js";
import type { IotlbMessage } from "../vhost/wire/index.js";
import type { UserAddresses } from "./user-addresses.js";

const PAGE_BYTES = 4096n;

export class IotlbServer {
  updates = 0;
  invalidations = 0;
  /** MISSes for what the guest has not mapped, or not for that access. */
  unanswered = 0;

  readonly #session: FrontEndSession;
  readonly #viommu: Viommu;
  readonly #users: UserAddresses;

  constructor(session: FrontEndSession, viommu: Viommu, users: UserAddresses) {
    this.#session = session;
    this.#viommu = viommu;
    this.#users = users;
  }

  /** True if an UPDATE was sent and taken. */
  miss({ iova, perm }: Pick<IotlbMessage, "iova" | "perm">): boolean {
    const pageIova = iova - (iova % PAGE_BYTES);
    const page = this.#viommu.translations.lookup(pageIova);
    const user = page === undefined ? -1 : this.#users.ofGpa(page.gpa, Number(PAGE_BYTES));
    if (page === undefined || user < 0 || (page.access & perm) !== perm) {
      this.unanswered++;
      return false;
    }
    this.updates++;
    return this.#session.iotlbUpdate(pageIova, PAGE_BYTES, BigInt(user), page.access) === 0n;
  }

  invalidate(iova: bigint, bytes: bigint): void {
    this.invalidations++;
    this.#session.iotlbInvalidate(iova, bytes);
  }
}
