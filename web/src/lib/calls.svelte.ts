// The list of calls behind the table: pages by cursor at its end, new ones at its top.
// An event only says "look again": the newest page is asked for with the same filters and merged by id, so that what is
// shown is always what the server would answer.
import { api, with_query, type ApiError, type CallSummary, type Page } from '../api';
import { as_error } from './resource.svelte';

const PAGE = 100;
const HEAD = 50;

export const filter_names = [
  'text', 'model', 'provider', 'route', 'key', 'status', 'user', 'session', 'tag', 'min_latency_ms', 'max_latency_ms', 'min_cost_usd', 'from', 'to',
] as const;
export type FilterName = (typeof filter_names)[number];
export type Filters = Partial<Record<FilterName, string>>;

interface Kept {
  items: CallSummary[];
  cursor: string | null;
  scroll: number;
  at: string | null;
}
// What Back returns to: the list as it was left, for the last few sets of filters.
const kept = new Map<string, Kept>();
const KEPT_MAX = 5;

export class CallList {
  items = $state.raw<CallSummary[]>([]);
  cursor = $state.raw<string | null>(null);
  error = $state.raw<ApiError | null>(null);
  loading = $state(true); // the first page
  loading_more = $state(false);
  waiting = $state.raw<CallSummary[]>([]); // new, but not shown while one reads further down
  waiting_gap = false; // more came than one page holds
  fresh = $state.raw<Set<string>>(new Set()); // came in just now
  scroll = 0;
  at: string | null = null; // the id of the chosen row

  #filters: Filters;
  #key: string;
  #abort = new AbortController();
  #looking = false;

  constructor(filters: Filters) {
    this.#filters = filters;
    this.#key = with_query('', filters);
    const before = kept.get(this.#key);
    if (before) {
      Object.assign(this, before);
      this.loading = false;
      this.look(true);
    } else this.#first();
  }

  #get(limit: number, cursor?: string) {
    return api.get<Page<CallSummary>>('/api/calls', { ...this.#filters, limit, cursor }, this.#abort.signal);
  }

  async #first() {
    try {
      const page = await this.#get(PAGE);
      this.items = page.items;
      this.cursor = page.next_cursor;
      this.error = null;
    } catch (cause) {
      if (this.#abort.signal.aborted) return;
      this.error = as_error(cause);
    }
    this.loading = false;
  }

  retry() {
    this.loading = true;
    this.error = null;
    this.#first();
  }

  async more() {
    if (this.loading_more || this.loading || !this.cursor) return;
    this.loading_more = true;
    try {
      const page = await this.#get(PAGE, this.cursor);
      const have = new Set(this.items.map((call) => call.id));
      this.items = [...this.items, ...page.items.filter((call) => !have.has(call.id))];
      this.cursor = page.next_cursor;
      this.error = null;
    } catch (cause) {
      if (!this.#abort.signal.aborted) this.error = as_error(cause);
    }
    this.loading_more = false;
  }

  // Looks for new calls: shows them at once, or keeps them until they are asked for.
  async look(show: boolean) {
    if (this.#looking || this.loading) return;
    this.#looking = true;
    try {
      const page = await this.#get(HEAD);
      const have = new Set(this.items.map((call) => call.id));
      const fresh = page.items.filter((call) => !have.has(call.id));
      // Not one known among a full page: between them and the list there may be more.
      this.waiting_gap = fresh.length === page.items.length && page.next_cursor !== null && this.items.length > 0;
      this.waiting = fresh;
      this.error = null;
      if (show) this.show_waiting(page.next_cursor);
    } catch (cause) {
      if (!this.#abort.signal.aborted) this.error = as_error(cause);
    }
    this.#looking = false;
  }

  show_waiting(cursor?: string | null) {
    if (!this.waiting.length) return;
    if (this.waiting_gap) {
      this.items = this.waiting;
      if (cursor !== undefined) this.cursor = cursor;
      else this.retry();
    } else this.items = [...this.waiting, ...this.items];
    this.fresh = new Set(this.waiting.map((call) => call.id));
    this.waiting = [];
  }

  leave() {
    this.#abort.abort();
    if (this.loading) return;
    kept.delete(this.#key);
    kept.set(this.#key, { items: this.items, cursor: this.cursor, scroll: this.scroll, at: this.at });
    if (kept.size > KEPT_MAX) kept.delete(kept.keys().next().value!);
  }
}
