/**
 * The machine that a guest believes to run on: its memory, the way its DMA works, and what a vIOMMU would look up.
 * Made once per guest; the driver gets the mapper, whoever plays the VMM gets the translations.
 */
import type { DmaKind, DmaMapper } from "./dma.js";
import { DirectMapper } from "./dma-direct.js";
import { PoolMapper, type PoolOptions } from "./dma-pool.js";
import { ViommuMapper, type ViommuOptions } from "./dma-viommu.js";
import { GuestRam, type GuestRamOptions } from "./guest-ram.js";
import { IdentityDomain, type IoTranslations, type IotlbInvalidator } from "./io-page-table.js";

export interface PlatformOptions extends GuestRamOptions, ViommuOptions, PoolOptions {
  readonly kind: DmaKind;
}

/** A vIOMMU as the VMM sees it. */
export interface Viommu {
  readonly translations: IoTranslations;
  /** Calls `invalidate` for each range that the guest takes back, before the guest goes on. */
  onInvalidate(invalidate: IotlbInvalidator): void;
}

export interface Platform {
  readonly kind: DmaKind;
  readonly ram: GuestRam;
  /** How DMA works for a driver that uses the DMA API. */
  readonly mapper: DmaMapper;
  /** Undefined on a machine without one. */
  readonly viommu: Viommu | undefined;
}

export function createPlatform(options: PlatformOptions): Platform {
  const { kind } = options;
  const ram = new GuestRam(options);
  switch (kind) {
    case "direct":
      return { kind, ram, mapper: new DirectMapper(ram), viommu: undefined };
    case "passthrough": {
      const viommu = { translations: new IdentityDomain(ram), onInvalidate: () => {} };
      return { kind, ram, mapper: new DirectMapper(ram, kind), viommu };
    }
    case "viommu": {
      const mapper = new ViommuMapper(ram, options);
      const viommu: Viommu = {
        translations: mapper.table,
        onInvalidate: (invalidate) => {
          mapper.onInvalidate = invalidate;
        },
      };
      return { kind, ram, mapper, viommu };
    }
    case "restricted":
    case "protected":
      return { kind, ram, mapper: new PoolMapper(ram, kind, options), viommu: undefined };
  }
}
