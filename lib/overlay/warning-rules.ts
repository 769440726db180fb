/**
 * What is worth knowing about a mount that works.
 * @module
 */
import { showPath } from '../paths.ts';
import type { Finding } from '../types.ts';
import { inside, type Layer } from './layer-facts.ts';
import type { Evidence, Instance } from './rule.ts';

/** What the warnings look at beside the evidence. */
export interface WarningEvidence extends Evidence {
  /** Where other mounts hang below a lower. */
  readonly submounts: readonly Buffer[];
}

interface WarningRule {
  readonly code: `WARN_OVERLAY_${string}`;
  readonly severity: 'warning' | 'info';
  readonly find: (evidence: WarningEvidence) => readonly Instance[];
  readonly fix: string;
}

const TMPFS_MAGIC = 0x01021994;
const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
const manyLayers = 128;

const rules: readonly WarningRule[] = [
  {
    code: 'WARN_OVERLAY_SUBMOUNT_HIDDEN',
    severity: 'warning',
    find: ({ layers, submounts }) =>
      submounts.flatMap((point) => {
        const lower = lowers(layers).find(({ facts }) => !facts.error && inside(facts.canonicalPath, point));
        const path = showPath(point);
        return lower
          ? [{ detail: `what is mounted at ${path}, below ${name(lower)}, will not show`, path }]
          : [];
      }),
    fix: 'Mount it into the overlay again, or name it as a lower of its own',
  },
  {
    code: 'WARN_OVERLAY_VOLATILE',
    severity: 'warning',
    find: ({ plan }) =>
      plan.keepUpperForSync
        ? [{ detail: 'a volatile upper is never synced: after a crash, or a kill, it must be thrown away' }]
        : [],
    fix: 'Unmount with syncVolatile if the upper is to be kept',
  },
  {
    code: 'WARN_OVERLAY_MANY_LAYERS',
    severity: 'warning',
    find: ({ layers }) =>
      lowers(layers).length > manyLayers
        ? [
            {
              detail: `${lowers(layers).length} lowers: other tools stop at ${manyLayers}, and each costs at a first look-up`,
            },
          ]
        : [],
    fix: 'Merge some layers into one',
  },
  {
    code: 'WARN_OVERLAY_LOWER_ON_OVERLAY',
    severity: 'warning',
    find: ({ layers }) =>
      on(lowers(layers), OVERLAYFS_SUPER_MAGIC).map((lower) => ({
        detail: `${name(lower)} is itself an overlay: nothing can be stacked on top of this one`,
        path: lower.shown,
      })),
    fix: 'Name the layers of that overlay as lowers, in place of its mount',
  },
  {
    code: 'WARN_OVERLAY_UPPER_ON_TMPFS',
    severity: 'info',
    find: ({ layers }) =>
      on(uppers(layers), TMPFS_MAGIC).map((upper) => ({
        detail: `${name(upper)} is on a tmpfs: changes take memory, and go when it is unmounted`,
        path: upper.shown,
      })),
    fix: 'Use an upper on a disk if changes are to be kept',
  },
  {
    code: 'WARN_OVERLAY_LOWER_WRITABLE',
    severity: 'info',
    find: ({ layers }) =>
      together(
        lowers(layers).filter(({ facts }) => !facts.error && !facts.readonly),
        'on a writable mount: what the overlay shows is undefined if it is changed meanwhile',
      ),
    fix: 'Change nothing there while it is mounted, or use a read-only mount or a snapshot',
  },
  {
    code: 'WARN_OVERLAY_NO_REFLINK',
    severity: 'info',
    find: ({ layers }) => {
      const [upper] = uppers(layers);
      if (upper === undefined || upper.facts.error) return [];
      const { device } = upper.facts;
      return together(
        lowers(layers).filter(({ facts }) => !facts.error && facts.device !== device),
        'on another file system than upper: a first write copies the whole file',
      );
    },
    fix: 'Put them on one file system with reflinks (xfs, btrfs)',
  },
  {
    code: 'WARN_OVERLAY_INODES_CHANGE',
    severity: 'info',
    find: ({ plan, layers }) => {
      const xino = plan.options.find(([key]) => key === 'xino')?.[1]?.toString();
      return uppers(layers).length > 0 && xino === 'off'
        ? [
            {
              detail:
                'with xino off st_dev differs between files, and inotify does not see changes through another layer',
            },
          ]
        : [];
    },
    fix: "Set xino to 'auto' where programs rely on st_dev and st_ino",
  },
  {
    code: 'WARN_OVERLAY_HARD_LINKS_BREAK',
    severity: 'info',
    find: ({ plan, layers }) => {
      const index = plan.options.find(([key]) => key === 'index')?.[1]?.toString();
      return uppers(layers).length > 0 && index === 'off'
        ? [{ detail: 'without index a hard link of a lower breaks when one of its names is written' }]
        : [];
    },
    fix: 'Set index where hard links must stay whole; the upper is then tied to its lower',
  },
];

/** Everything worth knowing, most serious first. */
export function warnings(evidence: WarningEvidence): Finding[] {
  return rules.flatMap(({ code, severity, find, fix }) =>
    find(evidence).map(({ detail, path }) => ({
      code,
      severity,
      ...(path === undefined ? {} : { path }),
      detail,
      fix,
    })),
  );
}

const name = (layer: Layer) => `${layer.label} ${layer.shown}`;

// One finding for any number of layers: 500 of one kind would hide the rest.
function together([first, ...others]: readonly Layer[], what: string): Instance[] {
  if (first === undefined) return [];
  const more = others.length > 0 ? ` and ${others.length} more are` : ' is';
  return [{ detail: `${name(first)}${more} ${what}`, path: first.shown }];
}

const lowers = (layers: readonly Layer[]) =>
  layers.filter(({ role }) => role === 'lower' || role === 'dataOnlyLower');
const uppers = (layers: readonly Layer[]) => layers.filter(({ role }) => role === 'upper');
const on = (layers: readonly Layer[], magic: number) =>
  layers.filter(({ facts }) => !facts.error && facts.fileSystem === magic);
