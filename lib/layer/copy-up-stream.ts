/**
 * What copying up gives, whoever does it: the results as they come, in batches, or all of them at once.
 * @module
 */
import { availableParallelism } from 'node:os';
import { abortSignal, boolean, callback, checked, integer } from '../arguments.ts';
import { invalidArgument } from '../errors.ts';
import { publishCopyUp } from '../events.ts';
import type { NativeCopyUpBatch } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import type { Finding } from '../types.ts';

/**
 * How the data of a file got into the upper: shared with the lower (`clone`), copied by copy_file_range(2), sendfile(2) or
 * read(2) and write(2), or by the kernel in its own way (`kernel`, through a mounted overlay). What has no data (an empty
 * file, a directory, a symbolic link, a FIFO, a device, a socket) is `read-write`. `skipped`: nothing was done; `reason`
 * says why.
 */
export type CopyMethod = 'clone' | 'copy_file_range' | 'sendfile' | 'read-write' | 'kernel' | 'skipped';

/** What became of one path. */
export interface CopyUpResult {
  /** Inside the overlay, without a leading slash; the root is empty. For people: `pathBytes` are the bytes. */
  readonly path: string;
  readonly pathBytes: Buffer;
  readonly method: CopyMethod;
  /** Bytes of data; holes are not counted, unless the file was cloned. Of `kernel`, which does not tell: the file's size. */
  readonly bytes: bigint;
  /** The data is known to be shared with the lower: it takes no room of its own yet. */
  readonly cloned: boolean;
  /** Why it was skipped, or what of it the upper could not take (extended attributes that its file system has not). */
  readonly reason?: string;
}

/** How far it has got. */
export interface CopyUpProgress {
  readonly entries: number;
  readonly bytes: bigint;
}

/** Options of both ways to copy up. */
export interface CopyUpOptions {
  /** Everything below a directory too. */
  readonly recursive?: boolean;
  /** How many threads work at a time, 1 to 64. The default is one for each processor, at most 4. */
  readonly concurrency?: number;
  /** Stops it between two system calls. What has been copied up stays, whole; what has not is not there. */
  readonly signal?: AbortSignal;
  /** Called about ten times a second. What it throws ends the call as `signal` does, and is what it rejects with. */
  readonly progress?: (done: CopyUpProgress) => void;
}

/** Checks the options, and makes the defaults explicit. */
export function checkCopyUpOptions(options: CopyUpOptions): CopyUpOptions & {
  readonly recursive: boolean;
  readonly concurrency: number;
} {
  const given = checked(options, {
    recursive: boolean,
    concurrency: integer(1, 64),
    signal: abortSignal,
    progress: callback,
  });
  return {
    ...given,
    recursive: given.recursive ?? false,
    concurrency: given.concurrency ?? Math.min(availableParallelism(), 4),
  };
}

/** Gives the batches, and adds to `unverified` what could not be checked. */
export type CopyUpSource = (unverified: Finding[]) => AsyncGenerator<NativeCopyUpBatch, void, void>;

/**
 * The results of copying up. `await` gives all of them; `for await` gives them as they come, and asks for no more than
 * it takes: leaving the loop stops the work. Nothing is done before one of them asks. It can be gone through once.
 */
export class CopyUpStream implements AsyncIterable<CopyUpResult>, PromiseLike<readonly CopyUpResult[]> {
  readonly #source: CopyUpSource;
  readonly #mounted: boolean;
  readonly #unverified: Finding[] = [];
  #used = false;
  #all: Promise<readonly CopyUpResult[]> | undefined;

  /** @internal */
  constructor(source: CopyUpSource, mounted: boolean) {
    this.#source = source;
    this.#mounted = mounted;
  }

  /** What could not be checked beforehand, once the first results are there. */
  get unverified(): readonly Finding[] {
    return this.#unverified;
  }

  /** The results in the batches that cross from the native side: what is in a batch is durable together. */
  async *batches(): AsyncGenerator<readonly CopyUpResult[], void, void> {
    if (this.#used) throw invalidArgument('copyUp', 'a stream', 'has been gone through already');
    this.#used = true;
    const start = performance.now();
    let [entries, bytes] = [0, 0n];
    let error: unknown;
    try {
      for await (const batch of this.#source(this.#unverified)) {
        const results = resultsOf(batch);
        entries += results.length;
        for (const one of results) bytes += one.bytes;
        yield results;
      }
    } catch (reason) {
      error = reason;
      throw reason;
    } finally {
      const duration = performance.now() - start;
      publishCopyUp(() => ({
        mounted: this.#mounted,
        entries,
        bytes,
        duration,
        ...(error ? { error } : {}),
      }));
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<CopyUpResult, void, void> {
    for await (const batch of this.batches()) yield* batch;
  }

  // biome-ignore lint/suspicious/noThenProperty: `await copyUp(…)` must do the work, not nothing at all.
  then<Fulfilled = readonly CopyUpResult[], Rejected = never>(
    fulfilled?: ((results: readonly CopyUpResult[]) => Fulfilled | PromiseLike<Fulfilled>) | null,
    rejected?: ((reason: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<Fulfilled | Rejected> {
    this.#all ??= this.#collect();
    return this.#all.then(fulfilled, rejected);
  }

  async #collect(): Promise<readonly CopyUpResult[]> {
    const all: (readonly CopyUpResult[])[] = [];
    for await (const batch of this.batches()) all.push(batch);
    return all.flat();
  }
}

/** Waits for a batch, and tells meanwhile how far the work has got. What the callback throws stops it, and is thrown. */
export async function withProgress<T>(
  progress: CopyUpOptions['progress'],
  ask: () => CopyUpProgress,
  work: Promise<T>,
  stop: () => void = () => {},
): Promise<T> {
  if (progress === undefined) return work;
  let failure: { readonly thrown: unknown } | undefined;
  const tell = (): void => {
    try {
      progress(ask());
    } catch (thrown) {
      failure ??= { thrown };
      clearInterval(timer);
      stop();
    }
  };
  const timer = setInterval(tell, 100);
  const toThrow = () => failure as { readonly thrown: unknown } | undefined;
  try {
    const done = await work;
    if (failure === undefined) tell();
    const last = toThrow();
    if (last !== undefined) throw last.thrown;
    return done;
  } catch (error) {
    // Where the callback has thrown, that is why the work has ended.
    throw toThrow()?.thrown ?? error;
  } finally {
    clearInterval(timer);
  }
}

const methods: readonly CopyMethod[] = [
  'clone',
  'copy_file_range',
  'sendfile',
  'read-write',
  'kernel',
  'skipped',
];

function resultsOf({ paths, methods: codes, bytes, cloned, reasons }: NativeCopyUpBatch): CopyUpResult[] {
  const why = new Map(reasons);
  let at = 0;
  return Array.from(codes, (code, index) => {
    const end = paths.indexOf(0, at);
    const pathBytes = paths.subarray(at, end);
    at = end + 1;
    const reason = why.get(index);
    return {
      path: showPath(pathBytes),
      pathBytes,
      method: methods[code] as CopyMethod,
      bytes: bytes[index] as bigint,
      cloned: cloned[index] === 1,
      ...(reason === undefined ? {} : { reason: showPath(reason) }),
    };
  });
}
