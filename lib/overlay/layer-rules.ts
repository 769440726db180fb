/**
 * The rules on the layers as they lie on disk: they hold before a mount as well as after one that failed.
 * @module
 */
import { constants } from 'node:os';
import { showPath } from '../paths.ts';
import { containedPairs, type Layer, type LayerRole, sameDirectoryPairs } from './layer-facts.ts';
import type { Evidence, Rule } from './rule.ts';

const { errno } = constants;
const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
const PROC_SUPER_MAGIC = 0x9fa0;

/** Most telling first. */
export const layerRules: readonly Rule[] = [
  {
    code: 'ERR_OVERLAY_LAYER_NOT_FOUND',
    step: 'open-layer',
    find: eachLayer(cannotOpen(errno.ENOENT), (layer) =>
      layer.isSymbolicLink ? `${name(layer)} is a symbolic link to nowhere` : `${name(layer)} does not exist`,
    ),
    fix: 'Make the directory, or correct the path',
  },
  {
    code: 'ERR_OVERLAY_LAYER_NOT_DIRECTORY',
    step: 'open-layer',
    find: eachLayer(
      ({ facts }) => (facts.error ? -facts.error.errno === errno.ENOTDIR : !facts.isDirectory),
      (layer) => `${name(layer)} is not a directory`,
    ),
    fix: 'A layer is a directory: correct the path',
  },
  {
    code: 'ERR_OVERLAY_LAYER_NOT_PERMITTED',
    step: 'open-layer',
    find: eachLayer(
      cannotOpen(errno.EACCES, errno.EPERM),
      (layer) => `${name(layer)} cannot be reached with this process's permissions`,
    ),
    fix: 'Grant search permission on every directory of the path',
  },
  {
    code: 'ERR_OVERLAY_LAYER_BAD_FD',
    step: 'open-layer',
    find: eachLayer(cannotOpen(errno.EBADF), (layer) => `${name(layer)} is not an open descriptor`),
    fix: 'Keep the descriptor open until mountOverlay() has settled',
  },
  {
    code: 'ERR_OVERLAY_LAYER_UNREACHABLE',
    step: 'open-layer',
    find: eachLayer(
      cannotOpen(errno.ELOOP, errno.ENAMETOOLONG),
      (layer) => `${name(layer)} cannot be opened`,
    ),
    fix: 'See errno: a loop of symbolic links, or a name that is too long',
  },
  {
    code: 'ERR_OVERLAY_UPPER_DELETED',
    step: 'check-upper',
    find: eachLayer(
      ({ role, facts }) => isWritable(role) && facts.error === undefined && facts.links === 0,
      (layer) =>
        `${name(layer)} has been deleted: the kernel would take it, and then nothing could be created`,
    ),
    fix: 'Make a new directory and pass that',
  },
  {
    code: 'ERR_OVERLAY_UPPER_IN_LOWER',
    step: 'check-in-lower',
    find: ({ layers, failure }) => {
      const silently = (inner: string, lower: string) =>
        `${inner} lies inside the lower ${lower}; the kernel would take it in silence, and the overlay would contain itself`;
      if (failure?.step === 'check-in-lower' && failure.other !== undefined) {
        const path = layers.find(({ role }) => role === failure.role)?.shown;
        return [{ detail: silently(`${failure.role} ${path}`, showPath(failure.other)), path }];
      }
      return containedPairs(writable(layers), lowers(layers)).map(([inner, lower]) => ({
        detail: silently(name(inner), lower.shown),
        path: inner.shown,
      }));
    },
    fix: 'Put upper and work outside every lower',
  },
  {
    code: 'ERR_OVERLAY_VOLATILE_MARKER',
    find: ({ layers, plan }) =>
      plan.removeVolatileMarker
        ? []
        : each(
            layers,
            ({ role, facts }) => role === 'work' && facts.error === undefined && facts.volatileMarker,
            (work) =>
              `${work.shown}/work/incompat/volatile says that the last mount was volatile and may have lost its last writes`,
          ),
    fix: 'Throw upper and work away, or set removeVolatileMarker if the upper is known to be whole',
  },
  {
    code: 'ERR_OVERLAY_UPPER_WITHOUT_XATTRS',
    step: 'check-upper',
    find: ({ layers, plan }) =>
      each(
        plan.requireXattrs ? having(layers, 'upper') : [],
        ({ facts }) => {
          if (facts.error !== undefined) return false;
          const user = plan.xattrPrefix === 'user.overlay.';
          return -(user ? facts.userXattrErrno : facts.trustedXattrErrno) === errno.EOPNOTSUPP;
        },
        (upper) =>
          `${name(upper)} is on a file system without ${plan.xattrPrefix}* attributes: directories of a lower could not be removed`,
      ),
    fix: 'Use an upper on ext4, xfs, btrfs or tmpfs, or leave strict out',
  },
  {
    code: 'ERR_OVERLAY_WORK_ON_OTHER_MOUNT',
    find: ({ layers }) =>
      pairs(
        upperAndWork(layers).filter(([upper, work]) => mountOf(upper) !== mountOf(work)),
        (upper, work) =>
          `${name(work)} is on another mount than ${name(upper)}; a bind mount of the same file system counts as another`,
      ),
    fix: 'Use two directories side by side on one mount',
  },
  {
    code: 'ERR_OVERLAY_WORK_NOT_SEPARATE',
    find: ({ layers }) => {
      const both = writable(layers);
      return [
        ...pairs(
          sameDirectoryPairs(both),
          (_, work) => `upper and work are the same directory, ${work.shown}`,
        ),
        ...pairs(containedPairs(both, both), inside),
      ];
    },
    fix: 'Use two directories side by side on one mount',
  },
  {
    code: 'ERR_OVERLAY_LOWER_TWICE',
    find: ({ layers }) => pairs(sameDirectoryPairs(lowers(layers)), same),
    fix: 'Name each lower once',
  },
  {
    code: 'ERR_OVERLAY_UPPER_IS_LOWER',
    find: ({ layers }) =>
      pairs(
        sameDirectoryPairs([...lowers(layers), ...writable(layers)]).filter(
          ([first, second]) => !isWritable(first.role) && isWritable(second.role),
        ),
        same,
      ),
    fix: 'Use a directory of its own for each',
  },
  {
    code: 'ERR_OVERLAY_LOWER_IN_LOWER',
    find: ({ layers }) => pairs(containedPairs(lowers(layers), lowers(layers)), inside),
    fix: 'Layers must not contain one another',
  },
  {
    code: 'ERR_OVERLAY_LOWER_IN_UPPER',
    find: ({ layers }) => pairs(containedPairs(lowers(layers), writable(layers)), inside),
    fix: 'Put the lower outside upper and work',
  },
  {
    code: 'ERR_OVERLAY_UPPER_ON_OVERLAY',
    find: eachLayer(
      ({ role, facts }) => isWritable(role) && isOn(facts, OVERLAYFS_SUPER_MAGIC),
      (layer) => `${name(layer)} is on an overlay, which cannot hold an upper`,
    ),
    fix: 'Use a directory on a plain file system: a volume, or a tmpfs (scratch)',
  },
  {
    code: 'ERR_OVERLAY_UPPER_READONLY',
    find: eachLayer(
      ({ role, facts }) => isWritable(role) && facts.error === undefined && facts.readonly,
      (layer) => `${name(layer)} is on a read-only mount or file system`,
    ),
    fix: 'Remount it writable, or leave upper and work out for a read-only overlay',
  },
  {
    code: 'ERR_OVERLAY_LAYER_UNSUITABLE',
    find: eachLayer(
      ({ facts }) => isOn(facts, PROC_SUPER_MAGIC),
      (layer) => `${name(layer)} is on proc, which the kernel takes for no layer`,
    ),
    fix: 'Copy what is needed to a directory',
  },
];

const name = (layer: Layer) => `${layer.label} ${layer.shown}`;
const same = (first: Layer, second: Layer) =>
  `${first.label} and ${second.label} are the same directory, ${second.shown}`;
const inside = (inner: Layer, outer: Layer) => `${name(inner)} lies inside ${name(outer)}`;

const isWritable = (role: LayerRole) => role === 'upper' || role === 'work';
const writable = (layers: readonly Layer[]) => layers.filter(({ role }) => isWritable(role));
const lowers = (layers: readonly Layer[]) => layers.filter(({ role }) => !isWritable(role));
const having = (layers: readonly Layer[], wanted: LayerRole) => layers.filter(({ role }) => role === wanted);
const mountOf = ({ facts }: Layer) => (facts.error === undefined ? facts.mountId : undefined);
const isOn = (facts: Layer['facts'], magic: number) =>
  facts.error === undefined && facts.fileSystem === magic;

function upperAndWork(layers: readonly Layer[]): [Layer, Layer][] {
  const [upper, work] = writable(layers);
  if (upper === undefined || work === undefined || upper.facts.error || work.facts.error) return [];
  return [[upper, work]];
}

function cannotOpen(...codes: readonly number[]): (layer: Layer) => boolean {
  return ({ facts }) => facts.error !== undefined && codes.includes(-facts.error.errno);
}

function eachLayer(applies: (layer: Layer) => boolean, detail: (layer: Layer) => string): Rule['find'] {
  return ({ layers }: Evidence) => each(layers, applies, detail);
}

function each(
  layers: readonly Layer[],
  applies: (layer: Layer) => boolean,
  detail: (layer: Layer) => string,
) {
  return layers.filter(applies).map((layer) => ({ detail: detail(layer), path: layer.shown }));
}

// The first of a contained pair, the second of any other, is the one to change.
function pairs(found: readonly [Layer, Layer][], detail: (first: Layer, second: Layer) => string) {
  return found.map(([first, second]) => ({
    detail: detail(first, second),
    path: (detail === inside ? first : second).shown,
  }));
}
