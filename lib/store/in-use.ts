/**
 * Whether a layer is mounted: asked of the kernel, which alone knows, and never remembered.
 * @module
 */
import { binding } from '../addon.ts';
import { findUse } from '../changes/apply-target.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import type { StoreContext } from './context.ts';
import type { LayerRecord } from './driver.ts';
import { explainStore } from './errors.ts';
import { expectUnused, type Step } from './steps.ts';

/** Why a layer that is an upper is not to be had. */
export const writtenTo = 'a live overlay writes to it';

/**
 * How a live overlay uses the layer's content or its work directory for writing; undefined: none does. In any mount
 * namespace, lazily unmounted or never attached: it is the kernel's own mark.
 */
export async function usedAsUpper(store: StoreContext, layer: LayerRecord): Promise<string | undefined> {
  const { detachedLayers, initialUserNamespace } = await kernelFeatures();
  if (!initialUserNamespace) return undefined;
  const content = store.directory.bytesOf(`${layer.id}/${store.driver.mounted(layer)}`);
  const { answer } = await binding()
    .directoryInUse(content, detachedLayers)
    .catch((error) => {
      throw explainStore(error, `layer ${layer.id}`);
    });
  return answer === 'yes' ? writtenTo : undefined;
}

/** The same as a step, right before what must not be done while one does. */
export async function mustBeUnused(store: StoreContext, layer: LayerRecord): Promise<Step[]> {
  const { detachedLayers, initialUserNamespace } = await kernelFeatures();
  if (!initialUserNamespace) return [];
  return [expectUnused(`${layer.id}/${store.driver.mounted(layer)}`, detachedLayers)];
}

/** How any overlay uses the layer's content; for reading, as far as mount tables tell. */
export async function usedAtAll(store: StoreContext, layer: LayerRecord): Promise<string | undefined> {
  return findUse(store.directory.bytesOf(`${layer.id}/${store.driver.mounted(layer)}`));
}
