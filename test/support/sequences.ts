/** How many random sequences a property is tried with. */

/** As many as usual; fewer where OVERLAYFS_TEST_SEQUENCES says so, as it does in a VM. */
export function sequences(usual: number): number {
  return Math.min(usual, Number(process.env.OVERLAYFS_TEST_SEQUENCES ?? usual));
}
