/**
 * An AbortSignal for work that runs on native threads.
 * @module
 */
import { binding } from './addon.ts';
import type { NativeCancel } from './native/binding.ts';

/**
 * Runs a verb that looks at a token between two system calls; the signal sets the token. The promise still settles only
 * when the work has stopped, so that nothing goes on behind the caller's back; it then rejects with the signal's reason.
 */
export async function cancellable<T>(
  signal: AbortSignal | undefined,
  work: (token: NativeCancel) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const token = binding().newCancel();
  const cancel = (): void => binding().cancel(token);
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await work(token);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
