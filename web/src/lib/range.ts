// Ranges of time as the address names them: `range=24h`, or `from` and `to` chosen by hand.

export interface Range {
  from: string;
  to: string;
  step_s: number;
}

export const ranges = [
  { value: '1h', label: '1 h', s: 3600, step_s: 60 },
  { value: 'today', label: 'Today', s: 0, step_s: 1800 },
  { value: '24h', label: '24 h', s: 86_400, step_s: 1800 },
  { value: '7d', label: '7 d', s: 604_800, step_s: 10_800 },
  { value: '30d', label: '30 d', s: 2_592_000, step_s: 86_400 },
] as const;
export type RangeName = (typeof ranges)[number]['value'];

const STEPS_S = [1, 5, 15, 60, 300, 900, 1800, 3600, 10_800, 21_600, 86_400];

export function step_for(span_s: number, buckets: number) {
  return STEPS_S.find((step) => span_s / step <= buckets) ?? 86_400;
}

// To the end of the running step, so that the address of a request (and what is remembered for it) stays the same for a while.
export function now_rounded(step_s: number, now = Date.now()) {
  const step_ms = step_s * 1000;
  return new Date(Math.ceil(now / step_ms) * step_ms).toISOString();
}

export function named_range(name: string, now = Date.now()): Range {
  const found = ranges.find((one) => one.value === name) ?? ranges[1];
  if (found.value === 'today') {
    const midnight = new Date(now);
    midnight.setHours(0, 0, 0, 0);
    return { from: midnight.toISOString(), to: now_rounded(found.step_s, now), step_s: found.step_s };
  }
  const step_ms = found.step_s * 1000;
  const from = Math.ceil((now - found.s * 1000) / step_ms) * step_ms;
  return { from: new Date(from).toISOString(), to: now_rounded(found.step_s, now), step_s: found.step_s };
}

// One bucket for each step, also where the server has none because nothing happened. None lies in the future.
export function fill<T extends { at: string }>(rows: T[], range: Range, empty: Omit<T, 'at'>, now = Date.now()): T[] {
  const step_ms = range.step_s * 1000;
  const from = rows.length ? Date.parse(rows[0].at) - step_ms * Math.ceil((Date.parse(rows[0].at) - Date.parse(range.from)) / step_ms) : Date.parse(range.from);
  const to = Math.min(Date.parse(range.to), now);
  const at = new Map(rows.map((row) => [Math.round((Date.parse(row.at) - from) / step_ms), row]));
  const filled: T[] = [];
  const BUCKETS_MAX = 1500;
  for (let i = 0; from + i * step_ms < to && i < BUCKETS_MAX; i++) {
    const found = at.get(i);
    filled.push({ ...((found ?? empty) as T), at: new Date(from + i * step_ms).toISOString() });
  }
  return filled;
}
