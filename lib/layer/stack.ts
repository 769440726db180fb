/**
 * What a set of layers means: the options that they are read with made explicit, and their directories held open.
 * @module
 */
import { binding } from '../addon.ts';
import { boolean, type Check, closed, directoryRefs, oneOf } from '../arguments.ts';
import { invalidArgument, overlayError } from '../errors.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import type { NativeStack } from '../native/binding.ts';
import { directoryRef, pathBytes, showPath } from '../paths.ts';
import type { DirRef, LayerSource, LayerStack, PathLike } from '../types.ts';
import { explainLayer } from './explain.ts';

/** Layers whose directories are open: they mean the same whatever is renamed or mounted over meanwhile. */
export interface OpenLayers extends AsyncDisposable, LayerSource {
  /** The same stack, by descriptors; they are closed with this. */
  layers(): LayerStack;
  close(): Promise<void>;
}

/**
 * Opens the directories of a stack (`O_PATH`). Functions that take a stack open and close it themselves; this is for
 * asking several questions of the same layers.
 *
 * @throws OverlayError `ERR_OVERLAY_LAYER_NOT_FOUND` and the like for a layer that cannot be opened.
 *
 * @example
 * ```ts
 * import { openLayers } from 'overlayfs';
 *
 * await using layers = await openLayers({ lower: ['/srv/app', '/srv/base'], upper: '/srv/upper' });
 * console.log(layers.layers().lower); // [{ fd: 21 }, { fd: 22 }]
 * ```
 */
export async function openLayers(stack: LayerStack): Promise<OpenLayers> {
  const { native } = await settleStack(checkStack(stack));
  const { lower, dataOnlyLower, upper, work, ...options } = native;
  const refs = [...lower, ...dataOnlyLower, ...[upper, work].filter((ref) => ref !== undefined)];
  const { fds, opened } = await binding()
    .openDirectories(refs)
    .catch((error) => {
      throw explainLayer(error);
    });
  const held = fds.map((fd): DirRef => ({ fd }));
  const open: LayerStack = {
    ...options,
    lower: held.splice(0, lower.length),
    dataOnlyLower: held.splice(0, dataOnlyLower.length),
    ...(upper === undefined ? {} : { upper: held.shift() as DirRef }),
    ...(work === undefined ? {} : { work: held.shift() as DirRef }),
  };
  let closed = false;
  const close = async (): Promise<void> => {
    if (!closed) binding().closeDirectories(opened);
    closed = true;
  };
  return {
    layers: () => {
      if (closed) throw invalidArgument('layers', 'closed', 'have been closed');
      return open;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** A stack as the caller gave it, checked: its directories as absolute bytes or descriptors. */
export type CheckedStack = Omit<NativeStack, 'index' | 'metacopy' | 'userxattr' | 'redirectDir'> &
  Pick<LayerStack, 'index' | 'metacopy' | 'userxattr' | 'redirectDir'>;

const options: Readonly<Record<'index' | 'metacopy' | 'userxattr' | 'redirectDir', Check>> = {
  index: boolean,
  metacopy: boolean,
  userxattr: boolean,
  redirectDir: oneOf('on', 'follow', 'nofollow'),
};
const names = ['lower', 'dataOnlyLower', 'upper', 'work', ...Object.keys(options)];

/** Checks types and keys and takes the current directory: before the first `await`. */
export function checkStack(source: LayerStack | LayerSource): CheckedStack {
  const stack = isLayerSource(source) ? source.layers() : source;
  const { lower, dataOnlyLower, upper, work, ...rest } = closed(
    stack,
    'stack',
    names,
  ) as unknown as LayerStack;
  if (lower === undefined) throw invalidArgument('stack.lower', lower, 'must be given');
  for (const [name, check] of Object.entries(options)) {
    const value = rest[name as keyof typeof rest];
    if (value !== undefined) check(value, `stack.${name}`);
  }
  return {
    ...rest,
    lower: directoryRefs(lower, 'stack.lower'),
    dataOnlyLower: dataOnlyLower === undefined ? [] : directoryRefs(dataOnlyLower, 'stack.dataOnlyLower'),
    ...(upper === undefined ? {} : { upper: directoryRef(upper, 'stack.upper') }),
    ...(work === undefined ? {} : { work: directoryRef(work, 'stack.work') }),
  };
}

/** A stack with every default made explicit. */
export interface SettledStack {
  readonly native: NativeStack;
  readonly xattrPrefix: 'trusted.overlay.' | 'user.overlay.';
  /** `trusted.*` cannot be read, and the caller knows that. */
  readonly xattrsHidden: boolean;
}

/** The stack with the defaults of a mount, for the native side. `assumeNoXattrs`: attributes that are hidden are no error. */
export async function settleStack(
  stack: CheckedStack,
  { assumeNoXattrs = false }: { readonly assumeNoXattrs?: boolean } = {},
): Promise<SettledStack> {
  const hidden = await overlayXattrsAreHidden(stack.userxattr);
  const userxattr = hidden && assumeNoXattrs ? false : await overlayXattrsAreUser(stack.userxattr);
  const metacopy = stack.metacopy ?? false;
  return {
    native: {
      ...stack,
      index: stack.index ?? false,
      metacopy,
      userxattr,
      redirectDir: stack.redirectDir ?? (userxattr ? 'nofollow' : metacopy ? 'on' : 'follow'),
    },
    xattrPrefix: userxattr ? 'user.overlay.' : 'trusted.overlay.',
    xattrsHidden: hidden,
  };
}

/**
 * Whether overlay attributes are in `user.overlay.*`: as the caller says, else only inside a user namespace, as for a mount.
 * Without CAP_SYS_ADMIN in the initial user namespace `trusted.*` reads as if nothing were there: that is an error.
 */
export async function overlayXattrsAreUser(userxattr: boolean | undefined): Promise<boolean> {
  if (!(await overlayXattrsAreHidden(userxattr))) {
    return userxattr ?? !(await kernelFeatures()).initialUserNamespace;
  }
  throw overlayError(
    'ERR_OVERLAY_XATTR_HIDDEN',
    'trusted.overlay.* attributes read as absent without CAP_SYS_ADMIN in the initial user namespace (xattr(7))',
    'Run it as root, or use layers that were written with userxattr and set userxattr: true',
  );
}

async function overlayXattrsAreHidden(userxattr: boolean | undefined): Promise<boolean> {
  const { initialUserNamespace, sysAdmin } = await kernelFeatures();
  const user = userxattr ?? !initialUserNamespace;
  return !user && !(initialUserNamespace && sysAdmin);
}

/** An index lies in the work directory: what needs it is not guessed without. `path` shows that there was one. */
export function workMustBeGiven({ index, upper, work }: NativeStack, path?: Buffer): void {
  if (upper === undefined || work !== undefined || !(index || path !== undefined)) return;
  const why =
    path === undefined ? 'index is on' : `${showPath(path)} of the upper has been written with an index`;
  throw overlayError(
    'ERR_OVERLAY_WORK_NEEDED',
    `${why}, and the index lies in the work directory, which is not given`,
    'Give `work`',
    path === undefined ? {} : { path: showPath(path) },
  );
}

/** A path of the merged view, or of a layer, as names alone: no leading slash, no `.`; the root is empty. */
export function pathInLayer(path: PathLike, name: string): Buffer {
  const parts = pathBytes(path, name).toString('latin1').split('/');
  if (parts.includes('..')) {
    throw overlayError(
      'ERR_OVERLAY_PATH_ESCAPES',
      `${name} holds \`..\`, which means another directory where a symbolic link or a redirect is on the way`,
      'Give the path without it',
    );
  }
  return Buffer.from(parts.filter((part) => part !== '' && part !== '.').join('/'), 'latin1');
}

/** Whether it is something that knows its layers, such as an `Overlay`. */
export function isLayerSource(source: LayerStack | LayerSource): source is LayerSource {
  return (
    typeof source === 'object' && source !== null && typeof (source as LayerSource).layers === 'function'
  );
}
