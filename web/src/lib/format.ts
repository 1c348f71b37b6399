// Values as people read them. Numbers keep their width (tabular figures); what is unknown is a dash, never 0.

const NONE = '–';
type Maybe<T> = T | null | undefined;

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function count(n: Maybe<number>) {
  return n === null || n === undefined ? NONE : grouped.format(n);
}

// 1,234 → 1.2k: where space is short.
export function short(n: Maybe<number>) {
  if (n === null || n === undefined) return NONE;
  const size = Math.abs(n);
  if (size < 1000) return Number.isInteger(n) ? String(n) : n.toFixed(1);
  for (const [step, unit] of [
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (size >= step * 0.9995) {
      const value = n / step;
      return (Math.abs(value) < 99.95 ? value.toFixed(1).replace(/\.0$/, '') : value.toFixed(0)) + unit;
    }
  }
  return grouped.format(n);
}

export function duration(ms: Maybe<number>) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 9.995) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} m ${Math.round((ms % 60_000) / 1000)} s`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} m`;
  return `${Math.floor(ms / 86_400_000)} d ${Math.round((ms % 86_400_000) / 3_600_000)} h`;
}

// Money comes as an exact decimal string; a call costs fractions of a cent, so small sums keep two significant digits.
export function money(usd: Maybe<string | number>) {
  if (usd === null || usd === undefined || usd === '') return NONE;
  const n = Number(usd);
  if (!Number.isFinite(n)) return NONE;
  if (n === 0) return '$0';
  const size = Math.abs(n);
  if (size >= 1000) return '$' + grouped.format(n);
  if (size >= 0.095) return '$' + n.toFixed(2);
  if (size < 1e-9) return '<$0.000000001';
  return '$' + n.toFixed(Math.min(12, 1 - Math.floor(Math.log10(size)))).replace(/0+$/, '');
}

export function bytes(n: Maybe<number>) {
  if (n === null || n === undefined) return NONE;
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = n;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value < 99.5 && unit ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

export function percent(part: number, whole: number) {
  if (!whole) return NONE;
  const p = (100 * part) / whole;
  return p === 0 ? '0%' : p < 0.1 ? '<0.1%' : p < 10 ? `${p.toFixed(1)}%` : `${p.toFixed(0)}%`;
}

const time_of_day = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day_of_year = new Intl.DateTimeFormat('en', { month: 'short', day: 'numeric' });
const whole_day = new Intl.DateTimeFormat('en', { dateStyle: 'medium' });
const whole = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });

export function clock(iso: Maybe<string>) {
  if (!iso) return NONE;
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return NONE;
  const ms = String(at.getMilliseconds()).padStart(3, '0');
  return { time: time_of_day.format(at), ms, day: at.toDateString() === new Date().toDateString() ? '' : day_of_year.format(at) };
}

export function moment(iso: Maybe<string>) {
  if (!iso) return NONE;
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? NONE : whole.format(at);
}

export function day(iso: Maybe<string>) {
  if (!iso) return NONE;
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? NONE : whole_day.format(at);
}

// '3 min ago', 'in 2 days'
export function ago(iso: Maybe<string>, now = Date.now()) {
  if (!iso) return 'never';
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return NONE;
  const s = Math.round(Math.abs(now - at) / 1000);
  const steps: [number, number, string][] = [
    [45, 1, 's'],
    [2700, 60, 'min'],
    [79_200, 3600, 'h'],
    [2_160_000, 86_400, 'd'],
    [27_648_000, 2_592_000, 'mo'],
    [Infinity, 31_536_000, 'y'],
  ];
  const [, size, unit] = steps.find(([limit]) => s < limit)!;
  if (s < 5) return 'just now';
  const text = `${Math.max(1, Math.round(s / size))} ${unit}`;
  return at > now ? `in ${text}` : `${text} ago`;
}

export function plural(n: number, one: string, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function error_text(error: unknown): string {
  if (!error) return '';
  if (typeof error === 'string') return error;
  const { message, code } = error as { message?: string; code?: string };
  return message ?? code ?? JSON.stringify(error);
}
