/**
 * Docker's storage drivers: image layers and container layers on disk in Docker's own layout, mounted by this package.
 *
 * @see https://docs.docker.com/engine/storage/drivers/overlayfs-driver/
 * @packageDocumentation
 */
export type { StoreEvent } from '../events.ts';
export { openStore } from './open.ts';
export type {
  CreateLayerOptions,
  Durability,
  FillOptions,
  Garbage,
  Layer,
  LayerKind,
  LayerProgress,
  LayerStore,
  MountLayerOptions,
  StoreDriver,
  StoreFinding,
  StoreOptions,
  Usage,
} from './types.ts';
