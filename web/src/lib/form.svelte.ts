// A form: its values, whether they changed, and the server's refusal, shown next to the field it names.
import { untrack } from 'svelte';
import type { ApiError } from '../api';
import { guard_leaving } from './router.svelte';
import { as_error } from './resource.svelte';

export class Form<T extends object> {
  values = $state() as T;
  busy = $state(false);
  error = $state.raw<ApiError | null>(null);
  #saved = $state('');

  // Call it while a component starts: leaving with unsaved changes asks first.
  constructor(values: T) {
    this.reset(values);
    $effect(() =>
      guard_leaving(() => untrack(() => !this.dirty || this.busy || confirm('Leave without saving? What you changed here is lost.'))),
    );
  }
  get dirty() {
    return JSON.stringify(this.values) !== this.#saved;
  }
  reset(values: T) {
    this.values = values;
    this.#saved = JSON.stringify(values);
    this.error = null;
  }

  #claimed = new Set<string>();
  // The message for one field, if the refusal is about it or something inside it.
  field(name: string) {
    this.#claimed.add(name);
    const at = this.error?.field;
    return at && (at === name || at.startsWith(`${name}.`) || at.startsWith(`${name}[`)) ? this.error!.message : null;
  }
  // What no field on the screen can show.
  get other() {
    const at = this.error?.field;
    if (!this.error) return null;
    return at && [...this.#claimed].some((name) => at === name || at.startsWith(`${name}.`) || at.startsWith(`${name}[`)) ? null : this.error;
  }

  async submit(work: () => Promise<void>) {
    if (this.busy) return;
    this.busy = true;
    this.error = null;
    const before = this.#saved;
    try {
      this.#saved = JSON.stringify(this.values); // what is being saved is not lost by going on
      await work();
    } catch (cause) {
      this.#saved = before;
      this.error = as_error(cause);
      requestAnimationFrame(() => document.querySelector<HTMLElement>('[aria-invalid="true"], [role="alert"]')?.scrollIntoView({ block: 'center' }));
    }
    this.busy = false;
  }
}

// '20s', '500 ms', '5m' or a bare number of milliseconds; null for nothing, undefined for what is no duration.
export function parse_duration(text: string): number | null | undefined {
  const trimmed = text.trim();
  if (!trimmed) return null;
  const found = /^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?$/.exec(trimmed);
  if (!found) return undefined;
  const unit = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }[found[2] ?? 'ms']!;
  return Math.round(Number(found[1]) * unit);
}
// A duration of a definition: `first_token_ms: 2000`, or as in files `first_token: 2s` (a bare number is seconds).
export function duration_of(object: Record<string, unknown> | null | undefined, name: string): number | null {
  const ms = object?.[`${name}_ms`];
  const plain = object?.[name];
  if (typeof plain === 'number') return plain * 1000;
  if (typeof plain === 'string') return parse_duration(/^[\d.]+$/.test(plain) ? `${plain}s` : plain) ?? null;
  return typeof ms === 'number' ? ms : typeof ms === 'string' ? (parse_duration(ms) ?? null) : null;
}
export function show_duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return '';
  if (ms && ms % 3_600_000 === 0) return `${ms / 3_600_000}h`;
  if (ms && ms % 60_000 === 0) return `${ms / 60_000}m`;
  if (ms && ms % 1000 === 0) return `${ms / 1000}s`;
  return `${ms}ms`;
}

export function parse_pairs(text: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const line of text.split(/[\n,]/)) {
    const at = line.indexOf('=');
    if (at > 0) out[line.slice(0, at).trim()] = line.slice(at + 1).trim();
  }
  return out;
}
export const show_pairs = (pairs: Record<string, string> | null | undefined) =>
  Object.entries(pairs ?? {}).map(([name, value]) => `${name}=${value}`).join('\n');

// The API merges what it is sent (RFC 7396), so that what is gone must be said to be gone.
export function with_removed(before: object | null | undefined, after: Record<string, unknown>) {
  const gone = Object.keys(before ?? {}).filter((name) => !(name in after));
  return { ...after, ...Object.fromEntries(gone.map((name) => [name, null])) };
}

export const number_or_null = (text: string | number | null | undefined) =>
  text === '' || text === null || text === undefined || !Number.isFinite(Number(text)) ? null : Number(text);
// Money stays the text that was typed: a number would round it.
export const money_or_null = (text: string | number | null | undefined) => {
  const trimmed = String(text ?? '').trim().replace(/^\$/, '');
  return trimmed ? trimmed : null;
};
