/**
 * What the kernel will not look up, and what it passes over: which artefact of a layer it is, and what to do.
 * @module
 */
import { type ErrorCode, errorFinding } from '../errors.ts';
import type { NativeRefusal, NativeWhichLayer } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import type { Finding } from '../types.ts';
import type { LayerPlace } from './place.ts';

type Reason = readonly [code: ErrorCode, detail: string, fix: string];

const asWritten = 'Read the layers with the options that they were written with';
const repair = 'It is damaged: remove the attribute or the file from the layer';

const refusals: Readonly<Record<NativeRefusal, Reason>> = {
  'redirect-not-followed': [
    'ERR_OVERLAY_REDIRECT_REFUSED',
    'has a redirect, and redirects are not followed (redirect_dir=nofollow)',
    `${asWritten}: redirectDir: 'follow'`,
  ],
  'redirect-malformed': ['ERR_OVERLAY_REDIRECT_REFUSED', 'has a redirect that is no path', repair],
  'redirect-bad-name': [
    'ERR_OVERLAY_REDIRECT_REFUSED',
    'is where a redirect leads by an empty name, `.` or `..`',
    repair,
  ],
  'metacopy-off': [
    'ERR_OVERLAY_METACOPY_REFUSED',
    'has only metadata, and its data is not looked for (metacopy=off)',
    `${asWritten}: metacopy: true`,
  ],
  'metacopy-malformed': [
    'ERR_OVERLAY_METACOPY_REFUSED',
    'has a metacopy attribute that is too short',
    repair,
  ],
  'data-missing': [
    'ERR_OVERLAY_METACOPY_REFUSED',
    'has only metadata, and no layer below has its data',
    'Name the layer that has it, in its place among the lowers',
  ],
  'layer-inside-layer': [
    'ERR_OVERLAY_LAYERS_OVERLAP',
    'is itself a layer of this stack, or its work directory',
    'Use layers that do not lie in each other',
  ],
  'index-bad': [
    'ERR_OVERLAY_INDEX_REFUSED',
    'is of another type than the file that it stands for in the index',
    'Remove it from the work directory while nothing is mounted',
  ],
  'origin-mismatch': [
    'ERR_OVERLAY_INDEX_REFUSED',
    'has been copied up from another file than the one that lies below it now (index=on)',
    'Use the lowers that the upper was written over, or leave index out',
  ],
};

/** Why the kernel refuses a path: what it found at this place. */
export function refusal(why: NativeRefusal, place: LayerPlace): Finding {
  const [code, detail, fix] = refusals[why];
  return errorFinding(code, `${shown(place)} ${detail}`, fix, place.realPath ?? place.path);
}

/** What these options do not honour. */
export function ignored(one: NativeWhichLayer['ignored'][number], place: LayerPlace): Finding {
  const name = showPath(one.name);
  const value = one.value.toString('hex');
  const [code, detail, fix] = (
    {
      'other-namespace': [
        'WARN_OVERLAY_XATTR_IGNORED',
        `has ${name} (0x${value}), which these options do not read`,
        'Set userxattr as it was when the layer was written; strip the attribute where it means nothing',
      ],
      'opaque-value': [
        'WARN_OVERLAY_XATTR_IGNORED',
        `has ${name} (0x${value}), which the kernel does not know here`,
        repair,
      ],
      'fuse-overlayfs': [
        'WARN_OVERLAY_XATTR_IGNORED',
        `has ${name} (0x${value}), which only fuse-overlayfs reads`,
        'Convert the layer, or mount it with fuse-overlayfs',
      ],
      'index-off': [
        'WARN_OVERLAY_INDEX_IGNORED',
        'belongs to an index, which these options do not read: its hard links may show other content',
        `${asWritten}: index: true`,
      ],
    } as const
  )[one.why];
  return {
    code,
    severity: 'warning',
    path: place.realPath ?? place.path,
    detail: `${shown(place)} ${detail}`,
    fix,
  };
}

function shown({ layer, index, path, realPath }: LayerPlace): string {
  return realPath ?? `${path} in ${layer === 'upper' || layer === 'work' ? layer : `${layer}[${index}]`}`;
}
