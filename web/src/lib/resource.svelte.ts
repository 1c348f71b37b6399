// Server data for a screen: what was seen last time is shown at once, then refreshed (stale while revalidate).
import { untrack } from 'svelte';
import { ApiError, api } from '../api';

const seen = new Map<string, unknown>();
const SEEN_MAX = 200;

function remember(key: string, value: unknown) {
  seen.delete(key);
  seen.set(key, value);
  if (seen.size > SEEN_MAX) seen.delete(seen.keys().next().value!);
}

export function forget_all() {
  seen.clear();
}
// After a change: what begins with this path is no longer what the server holds.
export function forget(prefix: string) {
  for (const key of seen.keys()) if (key.startsWith(prefix)) seen.delete(key);
}

export interface Resource<T> {
  readonly data: T | undefined;
  readonly error: ApiError | null;
  readonly loading: boolean;
  reload(): Promise<void>;
  set(value: T): void;
}

export function as_error(cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause;
  return new ApiError(0, 'console', cause instanceof Error ? cause.message : String(cause));
}

// `address` gives the path with its query; null while there is nothing to ask for. Call it while a component starts.
export function resource<T>(
  address: () => string | null,
  load: (address: string, signal: AbortSignal) => Promise<T> = (path, signal) => api.get<T>(path, undefined, signal),
): Resource<T> {
  let data = $state.raw<T | undefined>();
  let error = $state.raw<ApiError | null>(null);
  let loading = $state(true);
  let abort: AbortController | null = null;

  async function fetch_now(key: string) {
    abort?.abort();
    const mine = (abort = new AbortController());
    loading = true;
    try {
      const value = await load(key, mine.signal);
      if (mine.signal.aborted) return;
      remember(key, value);
      data = value;
      error = null;
    } catch (cause) {
      if (mine.signal.aborted) return;
      error = as_error(cause);
    }
    loading = false;
  }

  $effect(() => {
    const key = address();
    untrack(() => {
      if (key === null) {
        loading = false;
        return;
      }
      if (seen.has(key)) data = seen.get(key) as T;
      error = null;
      fetch_now(key);
    });
    return () => abort?.abort();
  });

  return {
    get data() {
      return data;
    },
    get error() {
      return error;
    },
    get loading() {
      return loading;
    },
    async reload() {
      const key = address();
      if (key !== null) await fetch_now(key);
    },
    set(value: T) {
      const key = address();
      if (key !== null) remember(key, value);
      data = value;
    },
  };
}
