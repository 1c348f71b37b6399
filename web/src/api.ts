// The management API as the console uses it: its types (docs/openapi.yaml is their source) and one client.
// Every request is same-origin and carries the session cookie; unsafe ones also the CSRF token of /api/session.

export type Origin = 'file' | 'database';
export type Role = 'owner' | 'admin' | 'editor' | 'viewer';
export type Capture = 'full' | 'metadata' | 'none';

export interface Session {
  user: { id: string; name: string; email: string } | null;
  key_id: string | null;
  name?: string; // of the key or link, where there is no user
  project: { id: string; name: string };
  role: Role;
  permissions: string[];
  csrf: string;
  version: string;
  projects: { id: string; name: string }[];
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
  incomplete?: boolean; // the search stopped after its share of work: the cursor goes on
}

export interface Provider {
  name: string;
  format: string;
  base_url?: string | null;
  api_key?: string | null;
  api_keys?: string[];
  headers?: Record<string, string>;
  ca_file?: string | null;
  proxy?: string | null;
  http2?: boolean;
  command?: string[];
  origin: Origin;
  status?: { state: 'ok' | 'cooling' | 'open' | 'unusable'; keys?: number; keys_cooling?: number; last_error?: string | null; last_error_at?: string | null } | null;
}

export interface Format {
  name: string;
  title: string;
  base_url: string;
  needs_key: boolean;
  source?: string;
}

export interface ProviderTest {
  ok: boolean;
  latency_ms?: number;
  models?: string[];
  error?: string | { code?: string; message: string } | null;
}

export interface Target {
  provider: string;
  model?: string;
  weight?: number;
  when?: string | null;
  params?: Record<string, unknown>;
}

export interface Check {
  name: string;
  on: 'input' | 'output' | 'both';
  kind: 'regex' | 'json_schema' | 'pii';
  pattern?: unknown;
  action: 'block' | 'mask' | 'flag';
}

export type FallbackCause = 'rate' | 'overload' | 'context' | 'content_filter' | 'error' | 'timeout' | 'any';

export interface Route {
  name: string;
  description?: string | null;
  targets: Target[];
  balance?: 'weighted' | 'ordered' | 'latency' | 'sticky';
  retry?: number;
  fallback?: { on: FallbackCause[] } | null;
  timeout?: {
    connect_ms?: number | null;
    first_token_ms?: number | null;
    between_ms?: number | null;
    total_ms?: number | null;
  } | null;
  cache?: { ttl_s: number } | null;
  checks?: Check[];
  capture?: Capture | null;
  pass_headers?: string[];
  origin: Origin;
}

export interface RouteTest {
  ok: boolean;
  latency_ms?: number;
  provider?: string;
  model?: string;
  error?: string | { code?: string; message: string } | null;
}

export type ModelState = 'stopped' | 'starting' | 'ready' | 'failed' | 'stopping';

export interface LocalModel {
  name: string;
  kind?: 'engine' | 'encoder';
  file?: string;
  size?: number | null;
  sha256?: string | null;
  licence?: string | null;
  state: ModelState;
  memory?: number | null;
  context?: number | null;
  slots?: number | null;
  threads?: number | null;
  context_max?: number | null;
  idle_stop_ms?: number | null;
  port?: number | null;
  error?: string | null;
  loaded_at?: string | null;
  last_used_at?: string | null;
}

export interface CatalogueModel {
  name: string;
  kind?: 'engine' | 'encoder';
  description?: string | null;
  parameters?: string | number | null;
  size?: number | null;
  licence?: string | null;
  context?: number | null;
  tools?: boolean;
  sources?: unknown[];
  installed?: boolean;
}

export interface Engine {
  state: 'missing' | 'installing' | 'building' | 'ready' | 'failed' | string;
  version?: string | null;
  path?: string | null;
  origin?: string | null;
  error?: string | null;
  job_id?: string | null;
}

export interface TargetName {
  name: string;
  kind: 'route' | 'model' | 'local' | string;
  provider?: string | null;
  description?: string | null;
}

export interface Job {
  id: string;
  kind: string;
  state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  progress?: { done?: number; total?: number | null; unit?: string; message?: string } | null;
  error?: string | { code?: string; message: string } | null;
  params?: { name?: string; file?: string } | null;
  cancel_asked?: boolean;
  created_at?: string;
}

export interface Limits {
  requests_per_minute?: number | null;
  tokens_per_minute?: number | null;
  parallel?: number | null;
}
export interface Budget {
  day_usd?: string | number | null;
  month_usd?: string | number | null;
  day?: string | number | null; // as files may write it
  month?: string | number | null;
}
export interface Spent {
  day_usd?: string | null;
  month_usd?: string | null;
  total_usd?: string | null;
}

export interface Key {
  id: string;
  name: string;
  prefix?: string;
  scopes: string[];
  models: string[];
  expires_at?: string | null;
  limits?: Limits | null;
  budget?: Budget | null;
  tags?: Record<string, string>;
  user?: string | null;
  capture?: Capture | null;
  state: 'active' | 'revoked' | 'expired';
  spent?: Spent | null;
  last_used_at?: string | null;
  created_at?: string;
  origin: Origin;
}

export interface Limit {
  kind: 'tag' | 'user' | 'project';
  value: string;
  limits?: Limits | null;
  budget?: Budget | null;
  spent?: Spent | null;
  origin?: Origin;
}

export interface Timings {
  queue?: number | null;
  connect?: number | null;
  first_token?: number | null;
  total?: number | null;
}

export interface Usage {
  input_tokens?: number | null;
  cached_input_tokens?: number | null;
  cache_write_tokens?: number | null;
  output_tokens?: number | null;
  reasoning_tokens?: number | null;
  input_total?: number; // the buckets are disjoint; these are their sums
  output_total?: number;
  known?: boolean;
  estimated?: boolean;
  [bucket: string]: number | boolean | null | undefined;
}

export interface CallSummary {
  id: string;
  started_at: string;
  door?: string;
  operation?: string;
  model_requested?: string | null;
  prompt?: string | null;
  route?: string | null;
  provider?: string | null;
  model?: string | null;
  status: string;
  http_status?: number | null;
  error?: { code?: string; message?: string } | null;
  key?: { id?: string; name?: string } | null;
  user?: string | null;
  session?: string | null;
  tags?: Record<string, string> | null;
  stream?: boolean;
  timings_ms?: Timings | null;
  usage?: Usage | null;
  cost_usd?: string | null;
  finish_reason?: string | null;
  cache?: string | null;
}

export interface Attempt {
  provider?: string | null;
  model?: string | null;
  started_ms?: number | null;
  duration_ms?: number | null;
  http_status?: number | null;
  error?: string | { code?: string; message?: string } | null;
  reason?: string | null;
}

export interface Message {
  headers?: Record<string, string> | [string, string][] | null;
  body?: unknown; // text as it came: JSON, or the events of a stream
  cut?: boolean; // longer than what is kept
}

export interface Call extends CallSummary {
  trace_id?: string | null;
  span_id?: string | null;
  parent_id?: string | null;
  project?: string | { id: string; name?: string };
  cost_detail?: { bucket: string; tokens: number; price_usd_per_mtok: string | null; cost_usd: string | null }[];
  response_model?: string | null;
  attempts?: Attempt[];
  checks?: { name: string; action?: string; on?: string; matched?: boolean; detail?: string }[];
  capture?: Capture;
  request?: Message | null;
  response?: Message | null;
  client?: { ip?: string | null; agent?: string | null } | null;
}

export interface Percentiles {
  p50?: number | null;
  p90?: number | null;
  p99?: number | null;
}

export interface StatsRow {
  calls: number;
  errors: number;
  input_tokens?: number | null;
  output_tokens?: number | null;
  cost_usd?: string | null;
  latency_ms?: Percentiles | null;
  first_token_ms?: Percentiles | null;
}
export interface Stats {
  totals: StatsRow;
  series: (StatsRow & { at: string })[];
  groups?: (StatsRow & { name: string })[];
}

export interface Member {
  id: string;
  name: string;
  email: string;
  role: Role;
  created_at?: string;
  last_seen_at?: string | null;
}
export interface Invite {
  id: string;
  email?: string | null;
  role: Role;
  url?: string;
  expires_at?: string;
  created_at?: string;
}

export interface Price {
  provider: string;
  model: string;
  prices?: Record<string, string | number | null>; // dollars per million tokens, by bucket
  tiered?: boolean;
  context_tokens?: number;
  origin?: 'built-in' | Origin;
}

export interface AuditEntry {
  id: number;
  at: string;
  actor: { kind: string; id: string | null; name: string } | null;
  action: string;
  kind: string;
  object: string;
  before: unknown;
  after: unknown;
  ip: string | null;
  hash: string;
}

export type Settings = Record<string, unknown>;
export type Server = Record<string, unknown>;

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field: string | null = null,
    readonly request_id: string | null = null,
  ) {
    super(message);
  }
}

type Query = Record<string, string | number | boolean | null | undefined>;

let csrf = '';
let on_signed_out = () => {};

export function set_csrf(token: string) {
  csrf = token;
}
export function csrf_token() {
  return csrf;
}
export function on_unauthorised(handler: () => void) {
  on_signed_out = handler;
}

export function with_query(path: string, query: Query = {}) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') parts.set(name, String(value));
  }
  const text = parts.toString();
  return text ? `${path}?${text}` : path;
}

// The error of an answer that is not 2xx, whatever its body turns out to be.
export async function read_error(response: Response): Promise<ApiError> {
  const request_id = response.headers.get('x-request-id');
  try {
    const { error } = await response.json();
    if (typeof error === 'string') return new ApiError(response.status, 'error', error, null, request_id);
    return new ApiError(
      response.status,
      String(error.code ?? error.type ?? 'error'),
      error.message ?? `The server answered ${response.status}.`,
      error.field ?? error.param ?? null,
      error.request_id ?? request_id,
    );
  } catch {
    return new ApiError(
      response.status,
      'error',
      `The server answered ${response.status} ${response.statusText}. Its log says more.`,
      null,
      request_id,
    );
  }
}

export interface Options {
  query?: Query;
  body?: unknown;
  text?: { body: string; type: string };
  signal?: AbortSignal;
  quiet?: boolean; // a 401 is an answer here, not the end of the session
}

export async function send(method: string, path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: 'application/json' };
  let body: string | undefined;
  if (options.text) {
    headers['content-type'] = options.text.type;
    body = options.text.body;
  } else if (options.body !== undefined) {
    headers['content-type'] = 'application/json';
    body = JSON.stringify(options.body);
  }
  if (method !== 'GET' && csrf) headers['x-csrf-token'] = csrf;
  let response: Response;
  try {
    response = await fetch(with_query(path, options.query), { method, headers, body, signal: options.signal });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'AbortError') throw cause;
    throw new ApiError(0, 'unreachable', 'The server cannot be reached. Check that it runs, then try again.');
  }
  if (response.ok) return response;
  const error = await read_error(response);
  if (response.status === 401 && !options.quiet) on_signed_out();
  throw error;
}

async function call<T>(method: string, path: string, options?: Options): Promise<T> {
  const response = await send(method, path, options);
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const api = {
  get: <T>(path: string, query?: Query, signal?: AbortSignal) => call<T>('GET', path, { query, signal }),
  post: <T>(path: string, body?: unknown, options?: Options) => call<T>('POST', path, { ...options, body: body ?? {} }),
  put: <T>(path: string, body: unknown) => call<T>('PUT', path, { body }),
  patch: <T>(path: string, body: unknown) => call<T>('PATCH', path, { body }),
  delete: <T>(path: string) => call<T>('DELETE', path),
  session: () => call<Session>('GET', '/api/session', { quiet: true }),
  sign_in: (body: Record<string, string>) => call<unknown>('POST', '/api/session', { body, quiet: true }),
};

export const seg = encodeURIComponent;
