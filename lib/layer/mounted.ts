/**
 * The layers of a mount that another process made, as far as the mount table tells them.
 * @module
 */
import { overlayError } from '../errors.ts';
import { moduleParameters } from '../inspect/module-parameters.ts';
import type { ListedLayer, MountedOverlay } from '../inspect/mount-table.ts';
import type { LayerSource, LayerStack } from '../types.ts';

/** Whether it is an entry of `listOverlays()`. */
export function isMountedOverlay(
  source: LayerStack | LayerSource | MountedOverlay,
): source is MountedOverlay {
  return typeof source === 'object' && source !== null && 'targetBytes' in source && 'propagation' in source;
}

/**
 * The stack that a mount was made of. The kernel shows no option that has its default: what the module says now is taken.
 *
 * @throws OverlayError `ERR_OVERLAY_LAYERS_UNKNOWN` where the table's names lead nowhere, or elsewhere.
 */
export async function stackOfMount(mount: MountedOverlay): Promise<LayerStack> {
  const { lower, dataOnlyLower, upper, work, options } = mount;
  const unknown = [...lower, ...dataOnlyLower, upper, work].find((layer) => layer?.unresolved !== undefined);
  if (unknown !== undefined || lower.length === 0) {
    throw overlayError(
      'ERR_OVERLAY_LAYERS_UNKNOWN',
      `the mount table does not tell the layers of ${mount.target}: ${whyUnknown(unknown)}`,
      'Name the layers as a stack, or ask the Overlay that mounted them',
      { path: mount.target },
    );
  }
  const defaults = await moduleParameters();
  const on = (option: 'index' | 'metacopy') =>
    options[option] === 'on' || (options[option] === undefined && defaults[option] === 'Y');
  const path = ({ pathBytes }: ListedLayer) => pathBytes;
  return {
    lower: lower.map(path),
    dataOnlyLower: dataOnlyLower.map(path),
    ...(upper === undefined ? {} : { upper: path(upper) }),
    ...(work === undefined ? {} : { work: path(work) }),
    index: on('index'),
    metacopy: on('metacopy'),
    userxattr: options.userxattr === true,
    redirectDir: redirectDir(options, defaults),
  };
}

function redirectDir(
  { redirect_dir: shown }: MountedOverlay['options'],
  defaults: Readonly<Record<string, string>>,
): NonNullable<LayerStack['redirectDir']> {
  if (shown === 'on' || shown === 'follow' || shown === 'nofollow') return shown;
  if (defaults.redirect_dir === 'Y') return 'on';
  return defaults.redirect_always_follow === 'Y' ? 'follow' : 'nofollow';
}

function whyUnknown(layer: ListedLayer | undefined): string {
  switch (layer?.unresolved) {
    case 'relative':
      return `${layer.path} is relative to a directory that is not known`;
    case 'descriptor':
      return `${layer.path} is a descriptor of the process that mounted it`;
    case 'detached':
      return `${layer.path} lies on a mount that no path leads to`;
    case undefined:
      return 'it names none';
  }
}
