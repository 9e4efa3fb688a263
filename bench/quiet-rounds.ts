/**
 * Which rounds count: those in which the rest of the machine left the sides alone. Decided by what else was going on, never
 * by what came out. Must not know what a round measured.
 */

/**
 * What may be taken by others meanwhile, in processors, the hypervisor included. A quiet machine stays below: what is
 * left is the cost of waking processors of a virtual machine, which differs from work to work.
 */
export const DISTURBED = 0.25;

/** How many of `wanted` rounds there are yet to play, by how disturbed those were that have been played. */
export function missingRounds(disturbances: readonly number[], wanted: number): number {
  const quiet = disturbances.filter((disturbance) => disturbance <= DISTURBED).length;
  return Math.max(0, wanted - quiet);
}

/**
 * The `wanted` rounds that count, by index, in their order: the first quiet ones, and where these are too few, the least
 * disturbed of the others.
 */
export function quietRounds(disturbances: readonly number[], wanted: number): number[] {
  const cost = (disturbance: number): number => (disturbance <= DISTURBED ? 0 : disturbance);
  return disturbances
    .map((disturbance, index) => ({ index, cost: cost(disturbance) }))
    .sort((a, b) => a.cost - b.cost || a.index - b.index)
    .slice(0, wanted)
    .map(({ index }) => index)
    .sort((a, b) => a - b);
}
