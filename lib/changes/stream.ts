/**
 * A change set as it comes: an async iterable, batches, and what came of it all.
 * @module
 */
import { constants as fsConstants } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import { invalidArgument, overlayError } from '../errors.ts';
import { explainInside } from '../layer/explain.ts';
import type {
  NativeChangeBatch,
  NativeChangeOptions,
  NativeChanges,
  NativeStack,
} from '../native/binding.ts';
import { isNativeError } from '../native-errors.ts';
import type { Change, ChangeKind } from './change.ts';
import { ChangeBatch, changeKinds, type OpenSource } from './decode.ts';
import { explainChangeError } from './explain.ts';
import type { ChangeOrigin } from './origin.ts';

/** What came of a walk. */
export interface ChangeResult {
  /** False: directories of the upper changed while they were read, so that the change set is of no single moment. */
  readonly consistent: boolean;
  /** With `onError: 'collect'`: what could not be looked at, in the order of the changes; each names its path. */
  readonly errors: readonly Error[];
  /** Of what has been delivered. */
  readonly counts: Readonly<Record<ChangeKind, number>>;
  /** The lowers were read whole, to find the other names of hard links (`index`). */
  readonly scannedLower: boolean;
  /** More files were moved than renames are looked for (262,144): the others are told as deleted and added. */
  readonly renamesCut: boolean;
}

/**
 * Changes as they are found, for one consumer: who asks for an iterator first, in one of the two ways, has the stream. Asking
 * again throws `ERR_INVALID_ARG_VALUE`, and is nothing to the iteration under way. Nothing begins before the first `next()`.
 */
export interface ChangeStream extends AsyncIterable<Change>, AsyncDisposable {
  /** The changes one by one. */
  [Symbol.asyncIterator](): AsyncIterator<Change, void, undefined>;
  /** The changes by the thousand: less work for each than one by one. */
  batches(): AsyncIterable<readonly Change[]>;
  /**
   * Settles when the iteration has come to its end, has been left or closed (with what had been delivered until then) or
   * has failed; that is not an unhandled rejection if nobody looks at it. One by one, changes are delivered by the thousand
   * too: `counts` are of all that had come when the loop was left.
   */
  readonly done: Promise<ChangeResult>;
  /**
   * Ends the walk and closes the layers: no `source` can be opened and no change be applied any more. Leaving the iteration,
   * or its coming to its end, does not close: without this one descriptor for each layer stays open until the stream is
   * collected as garbage.
   */
  close(): Promise<void>;
}

/** What a walk is given, checked and settled. */
export interface ChangePlan {
  readonly stack: NativeStack;
  readonly options: NativeChangeOptions;
  readonly onError: 'throw' | 'collect';
  readonly signal?: AbortSignal;
}

/** A walk that begins with its iteration. */
export class ChangeWalk implements ChangeStream {
  readonly done: Promise<ChangeResult>;
  readonly #settle: (result: ChangeResult) => void;
  readonly #fail: (error: unknown) => void;
  readonly #plan: () => Promise<ChangePlan>;
  readonly #errors: Error[] = [];
  readonly #counts = [0, 0, 0, 0, 0, 0];
  #last: Pick<ChangeResult, 'consistent' | 'scannedLower' | 'renamesCut'> = {
    consistent: true,
    scannedLower: false,
    renamesCut: false,
  };
  #started = false;
  #closed = false;
  #native: NativeChanges | undefined;
  /** What asks for the next batch: one at a time. */
  #asking: Promise<NativeChangeBatch> | undefined;
  #unlisten = (): void => {};

  constructor(plan: () => Promise<ChangePlan>) {
    this.#plan = plan;
    const { promise, resolve, reject } = withResolvers<ChangeResult>();
    this.done = promise;
    this.#settle = resolve;
    this.#fail = reject;
    promise.catch(() => {});
  }

  [Symbol.asyncIterator](): AsyncGenerator<Change, void, undefined> {
    const batches = this.batches();
    async function* oneByOne(): AsyncGenerator<Change, void, undefined> {
      for await (const batch of batches) yield* batch;
    }
    return this.#settledWhenLeft(oneByOne());
  }

  batches(): AsyncGenerator<readonly Change[], void, undefined> {
    if (this.#started) throw invalidArgument('changes', 'iterated', 'can be iterated only once');
    this.#started = true;
    return this.#settledWhenLeft(this.#iterate());
  }

  // One that is left before it has begun does not come to its `finally`.
  #settledWhenLeft<T>(iteration: AsyncGenerator<T, void, undefined>): AsyncGenerator<T, void, undefined> {
    const leave = iteration.return.bind(iteration);
    return Object.assign(iteration, {
      return: async (value: void | PromiseLike<void>) => {
        const left = await leave(value);
        this.#settle(this.#result());
        return left;
      },
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#closeLayers();
    this.#settle(this.#result());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *#iterate(): AsyncGenerator<readonly Change[], void, undefined> {
    let ended = false;
    try {
      const { stack, options, onError, signal } = await this.#plan();
      const native = await this.#open(stack, options, signal);
      const origin: ChangeOrigin = {
        stack,
        compared: options.compare !== 'none',
        walk: () => this.#opened(),
      };
      while (!ended) {
        const taken = await this.#next(native, signal);
        ended = taken.ended;
        // The next batch is got ready while this one is looked at.
        if (!ended) this.#ask(native);
        this.#note(taken);
        const batch = new ChangeBatch(taken.count, taken.records, origin, this.#openSource).changes();
        if (batch.length > 0) yield batch;
        const errors = taken.errors.map((error) => explainChangeError(error, stack));
        if (onError === 'throw' && errors[0] !== undefined) throw errors[0];
        this.#errors.push(...errors);
      }
      this.#settle(this.#result());
    } catch (error) {
      this.#fail(error);
      await this.#closeLayers();
      throw error;
    } finally {
      this.#unlisten();
      if (!ended) await this.#endWalk().catch(() => {}); // it fails only where the process is ending
      this.#settle(this.#result());
    }
  }

  async #open(
    stack: NativeStack,
    options: NativeChangeOptions,
    signal: AbortSignal | undefined,
  ): Promise<NativeChanges> {
    signal?.throwIfAborted();
    const native = await binding()
      .openChanges(stack, options)
      .catch((error) => {
        throw explainInside(error, Buffer.from('.'));
      });
    this.#native = native;
    if (this.#closed) {
      await this.#closeLayers();
      throw streamClosed();
    }
    const stop = (): void => binding().cancelChanges(native);
    signal?.addEventListener('abort', stop, { once: true });
    this.#unlisten = () => signal?.removeEventListener('abort', stop);
    if (signal?.aborted) stop();
    return native;
  }

  async #next(native: NativeChanges, signal: AbortSignal | undefined): Promise<NativeChangeBatch> {
    try {
      const batch = await (this.#asking ?? this.#ask(native));
      this.#asking = undefined;
      signal?.throwIfAborted();
      if (this.#closed) throw streamClosed();
      return batch;
    } catch (error) {
      signal?.throwIfAborted();
      const cancelled = isNativeError(error) && -error.errno === constants.errno.ECANCELED;
      throw cancelled && this.#closed ? streamClosed() : explainInside(error, Buffer.from('.'));
    }
  }

  #ask(native: NativeChanges): Promise<NativeChangeBatch> {
    this.#asking = binding().nextChanges(native);
    this.#asking.catch(() => {});
    return this.#asking;
  }

  // Left early: what is under way is of no use any more, but sources that were given out can still be opened.
  async #endWalk(): Promise<void> {
    const native = this.#native;
    if (native === undefined) return;
    binding().cancelChanges(native);
    await this.#asking?.catch(() => {});
    await binding().endChanges(native);
  }

  async #closeLayers(): Promise<void> {
    const native = this.#native;
    this.#native = undefined;
    this.#unlisten();
    if (native === undefined) return;
    binding().cancelChanges(native);
    await this.#asking?.catch(() => {});
    await binding().closeChanges(native);
  }

  #note({ kinds, consistent, scannedLower, renamesCut }: NativeChangeBatch): void {
    for (const [kind, count] of kinds.entries()) this.#counts[kind] = (this.#counts[kind] ?? 0) + count;
    this.#last = { consistent, scannedLower, renamesCut };
  }

  #result(): ChangeResult {
    const counts = Object.fromEntries(changeKinds.map((kind, number) => [kind, this.#counts[number] ?? 0]));
    return { ...this.#last, errors: this.#errors, counts: counts as Record<ChangeKind, number> };
  }

  #opened(): NativeChanges {
    if (this.#native === undefined) throw streamClosed();
    return this.#native;
  }

  readonly #openSource: OpenSource = async (layer, path) => {
    const { fd, opened } = await binding()
      .openChangeSource(this.#opened(), layer, path)
      .catch((error) => {
        throw explainInside(error, path);
      });
    try {
      return await openFile(`/proc/self/fd/${fd}`, fsConstants.O_RDONLY | fsConstants.O_NONBLOCK);
    } finally {
      binding().closeOpened(opened);
    }
  };
}

function streamClosed(): Error {
  return overlayError(
    'ERR_OVERLAY_STREAM_CLOSED',
    'the stream of changes has been closed, and its layers with it',
    'Open sources and apply changes before close(), or ask for the changes again',
  );
}

function withResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  return { promise, resolve, reject };
}
