// A stand-in for the server while the console is being written, and for its component tests: the management API of
// docs/openapi.yaml over made-up data, a streaming /v1/chat/completions, and the built console under the real CSP.
//   node dev/mock.mjs [--port 4199] [--empty] [--signed-out] [--latency MS] [--rate CALLS_PER_S]
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { randomBytes } from 'node:crypto';
import { extname, join, normalize } from 'node:path';
import { parseArgs } from 'node:util';
import * as data from './data.mjs';

const { values: args } = parseArgs({
  options: {
    port: { type: 'string', default: '4199' },
    empty: { type: 'boolean', default: false },
    'signed-out': { type: 'boolean', default: false },
    latency: { type: 'string', default: '0' },
    rate: { type: 'string', default: '0.7' },
    role: { type: 'string', default: 'owner' },
  },
});
const dist = new URL('../dist/', import.meta.url).pathname;
const latency_ms = Number(args.latency);
const KEY = 'cap_test';
const CSRF = 'csrf-of-the-mock';
const now = () => new Date().toISOString();
const later = (ms) => new Date(Date.now() + ms).toISOString();

let signed_in = !args['signed-out'];
let scores = [];
let calls = args.empty ? [] : data.make_calls(20_000, 30);
const reads = ['job', 'call', 'provider', 'route', 'model', 'key', 'limit', 'price', 'setting', 'server', 'config'];
const permissions = {
  owner: ['project.write', 'call.make', 'call.delete', 'member.read', 'audit.read', ...reads.map((x) => `${x}.read`), ...['job', 'provider', 'route', 'model', 'key', 'limit', 'member', 'price', 'setting', 'server', 'config'].map((x) => `${x}.write`)],
  viewer: ['call.make', ...reads.map((x) => `${x}.read`)],
};
const key = (base, more) => ({ ...base, scopes: ['call'], models: ['*'], expires_at: null, limits: null, budget: null, tags: {}, capture: null, state: 'active', spent: { day_usd: '0', month_usd: '0', total_usd: '0' }, last_used_at: later(-60e3), created_at: '2026-09-14T08:00:00.000Z', origin: 'database', ...more });
const store = {
  providers: args.empty ? data.providers.slice(3) : data.providers,
  routes: args.empty ? [] : data.routes,
  models: args.empty ? [] : data.local_models,
  keys: [
    key({ id: data.id('key', Date.parse('2026-09-01')), name: 'first key', prefix: 'cap_q0f2', user: null }, { scopes: ['admin'] }),
    ...(args.empty
      ? []
      : [
          key(data.keys[0], { models: ['smart', 'fast'], limits: { requests_per_minute: 600, tokens_per_minute: 200000, parallel: 20 }, budget: { day_usd: '20', month_usd: '400' }, spent: { day_usd: '12.4471', month_usd: '188.02', total_usd: '911.30' }, tags: { app: 'shop' } }),
          key(data.keys[1], { models: ['fast'], budget: { day_usd: '5', month_usd: null }, spent: { day_usd: '4.71', month_usd: '62.2', total_usd: '130.05' }, expires_at: later(86400e3 * 20) }),
          key(data.keys[2], { origin: 'file', spent: { day_usd: '0.031', month_usd: '2.4', total_usd: '8.9' }, last_used_at: null }),
          key({ id: data.id('key', Date.parse('2026-08-01')), name: 'old laptop', prefix: 'cap_zz10', user: null }, { state: 'revoked' }),
        ]),
  ],
  limits: args.empty ? [] : [{ kind: 'user', value: 'ada', limits: { requests_per_minute: 60 }, budget: { day_usd: '2' }, spent: { day_usd: '0.84', month_usd: '9.1' } }],
  members: [
    { id: data.id('usr'), name: 'Grace Hopper', email: 'grace@example.com', role: 'owner', created_at: '2026-09-01T09:00:00Z', last_seen_at: now() },
    ...(args.empty ? [] : [{ id: data.id('usr'), name: 'Ada Lovelace', email: 'ada@example.com', role: 'editor', created_at: '2026-09-20T09:00:00Z', last_seen_at: later(-86400e3) }]),
  ],
  invites: [],
  prices: data.prices,
  jobs: [],
  settings: { capture: 'full', retention_days: 90, retention_bytes: 50_000_000_000 },
  audit: [
    { id: 2, hash: 'ab12', ip: '10.2.0.9', at: later(-600e3), actor: { kind: 'user', id: null, name: 'grace@example.com' }, action: 'update', kind: 'route', object: 'fast', before: { retry: 0 }, after: { retry: 1 } },
    { id: 1, hash: 'cd34', ip: '10.2.0.9', at: later(-7200e3), actor: { kind: 'user', id: null, name: 'ada@example.com' }, action: 'create', kind: 'key', object: 'support-bot', before: null, after: { name: 'support-bot', scopes: ['call'] } },
  ],
};
let engine = args.empty ? { state: 'missing' } : { state: 'ready', version: 'b8123', path: '/var/lib/capstan/engine/llama-server', origin: 'debian' };

// ------------------------------------------------------------------ events
const streams = new Set();
let sequence = 0;
function emit(type, body) {
  const text = `id: ${++sequence}\nevent: ${type}\ndata: ${JSON.stringify(body)}\n\n`;
  for (const stream of streams) stream.write(text);
}
function add_call(call) {
  calls.unshift(call);
  emit('call', { id: call.id });
}
if (!args.empty && Number(args.rate) > 0) {
  setInterval(() => add_call(data.make_call(Date.now() - 900)), 1000 / Number(args.rate)).unref();
}

// ------------------------------------------------------------------ calls
const glob = (pattern, text) => !pattern || String(text ?? '').includes(pattern.replaceAll('*', ''));
function select(query) {
  const q = (name) => query.get(name);
  const since = q('from') ? Date.parse(q('from')) : 0;
  const until = q('to') ? Date.parse(q('to')) : Infinity;
  return calls.filter((call) => {
    const at = Date.parse(call.started_at);
    const total = call.timings_ms.total;
    const [tag, tag_value] = (q('tag') ?? '').split('=');
    return (
      at >= since && at <= until &&
      (!q('model') || glob(q('model'), call.model) || glob(q('model'), call.model_requested)) &&
      glob(q('provider'), call.provider) &&
      (!q('route') || call.route === q('route')) &&
      (!q('key') || call.key.id === q('key')) &&
      (!q('status') || q('status').split(',').includes(call.status)) &&
      (!q('user') || call.user === q('user')) &&
      (!q('session') || call.session === q('session')) &&
      (!q('tag') || (tag_value ? call.tags[tag] === tag_value : tag in call.tags)) &&
      total >= Number(q('min_latency_ms') ?? 0) && total <= Number(q('max_latency_ms') ?? Infinity) &&
      Number(call.cost_usd ?? 0) >= Number(q('min_cost_usd') ?? 0) &&
      (!q('text') || JSON.stringify([call.request.body, call.response.body]).toLowerCase().includes(q('text').toLowerCase()))
    );
  });
}
function percentiles(values) {
  if (!values.length) return { p50: null, p90: null, p99: null };
  const sorted = values.sort((a, b) => a - b);
  const p = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
  return { p50: p(0.5), p90: p(0.9), p99: p(0.99) };
}
function summary(list) {
  const sum = (get) => list.reduce((total, call) => total + (get(call) ?? 0), 0);
  return {
    calls: list.length,
    errors: list.filter((call) => call.status === 'error').length,
    input_tokens: sum((call) => call.usage.input_tokens),
    output_tokens: sum((call) => call.usage.output_tokens),
    cost_usd: list.some((call) => call.cost_usd !== null) ? sum((call) => Number(call.cost_usd)).toFixed(9) : null,
    latency_ms: percentiles(list.map((call) => call.timings_ms.total)),
    first_token_ms: percentiles(list.map((call) => call.timings_ms.first_token).filter(Boolean)),
  };
}
function stats(query) {
  if (query.get('text')) throw new Refused(400, 'bad_field', 'Statistics cannot be filtered by text.', 'text');
  const list = select(query);
  const from = Date.parse(query.get('from'));
  const step = Number(query.get('step_s')) * 1000;
  if (!from || !step || !query.get('to')) throw new Refused(400, 'bad_field', 'A series needs from, to and step_s.', 'from');
  const split = (get) => {
    const parts = new Map();
    for (const call of list) {
      const at = get(call);
      parts.set(at, [...(parts.get(at) ?? []), call]);
    }
    return [...parts];
  };
  const by = { model: (c) => c.model, key: (c) => c.key.id, provider: (c) => c.provider, route: (c) => c.route ?? '', user: (c) => c.user ?? '', status: (c) => c.status }[query.get('group_by')];
  return {
    totals: summary(list),
    series: split((call) => Math.floor((Date.parse(call.started_at) - from) / step))
      .sort((a, b) => a[0] - b[0])
      .map(([n, part]) => ({ at: new Date(from + n * step).toISOString(), ...summary(part) })),
    groups: by ? split(by).map(([name, part]) => ({ name, ...summary(part) })) : [],
  };
}
function spend(query) {
  const by = query.get('by') ?? 'day';
  const day = (call) => call.started_at.slice(0, 10) + 'T00:00:00.000Z';
  const names = { day: () => [''], key: (c) => [c.key.id], user: (c) => [c.user], model: (c) => [c.model], provider: (c) => [c.provider], route: (c) => [c.route], tag: (c) => Object.entries(c.tags ?? {}).map((pair) => pair.join('=')) }[by];
  if (!names) throw new Refused(400, 'bad_field', 'by must be one of day, key, user, tag, model, provider, route.', 'by');
  const per_day = by === 'day' || query.get('per') === 'day';
  const rows = new Map();
  for (const call of calls) {
    if (Date.parse(call.started_at) < Date.parse(query.get('from') ?? 0)) continue;
    for (const name of names(call)) {
      if (by !== 'day' && !name) continue;
      const at = per_day ? day(call) : null;
      const row = rows.get(name + at) ?? { name, day: at, calls: 0, calls_unpriced: 0, input_tokens: 0, output_tokens: 0, cost_usd: 0 };
      row.calls++;
      row.calls_unpriced += call.cost_usd === null;
      row.input_tokens += call.usage.input_tokens ?? 0;
      row.output_tokens += call.usage.output_tokens ?? 0;
      row.cost_usd += Number(call.cost_usd ?? 0);
      rows.set(name + at, row);
    }
  }
  return { items: [...rows.values()].map((row) => ({ ...row, cost_usd: row.cost_usd.toFixed(9) })), next_cursor: null };
}
function list_calls(query) {
  const found = select(query);
  const limit = Math.min(Number(query.get('limit') ?? 50), 200);
  const start = query.get('cursor') ? found.findIndex((call) => call.id === query.get('cursor')) + 1 : 0;
  const items = found.slice(start, start + limit).map(({ request, response, attempts, cost_detail, ...call }) => call);
  return { items, next_cursor: start + limit < found.length ? items.at(-1).id : null };
}

// ------------------------------------------------------------------ jobs
function start_job(kind, subject, total, unit, done) {
  const job = { id: data.id('job'), kind, params: { name: subject }, state: 'running', progress: { done: 0, total, unit, message: null }, error: null, created_at: now() };
  store.jobs.unshift(job);
  const timer = setInterval(() => {
    if (job.state !== 'running') return clearInterval(timer);
    job.progress.done = Math.min(total, job.progress.done + total / 40);
    if (job.progress.done >= total) {
      job.state = 'done';
      done();
    }
    emit('job', job);
  }, 150);
  return job;
}

// ------------------------------------------------------------------ chat
async function chat(request, response, body) {
  const at = Date.now();
  const call = data.make_call(at);
  Object.assign(call, { model_requested: body.model, status: 'ok', http_status: 200, error: null, user: null, session: null, key: { id: null, name: null } });
  call.request.body = body;
  if (/unknown/.test(body.model)) {
    response.writeHead(404, { 'content-type': 'application/json', 'x-request-id': data.id('req') });
    return response.end(JSON.stringify({ error: { message: `No route, model or provider has the name "${body.model}".`, type: 'invalid_request_error', code: 'model_not_found', param: 'model' } }));
  }
  const text = data.answers[at % data.answers.length];
  const words = (/code/.test(JSON.stringify(body.messages)) ? 'Here you are:\n\n```python\ndef add(a, b):\n    return a + b\n```\n\nIt adds `a` and `b`.' : text).split(/(?<=\s)/);
  response.writeHead(200, { 'content-type': 'text/event-stream', 'x-capstan-call-id': call.id, 'x-capstan-provider': call.provider, 'x-capstan-model': call.model });
  const chunk = (delta, more = {}) => response.write(`data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', model: call.model, choices: [{ index: 0, delta, finish_reason: null, ...more }] })}\n\n`);
  let gone = false;
  request.socket.on('close', () => (gone = true));
  await new Promise((done) => setTimeout(done, 180));
  const first = Date.now() - at;
  chunk({ role: 'assistant', content: '' });
  for (const word of words) {
    if (gone) break;
    chunk({ content: word });
    await new Promise((done) => setTimeout(done, 22));
  }
  chunk({}, { finish_reason: 'stop' });
  call.usage = { input_tokens: 31, cached_input_tokens: 0, cache_write_tokens: 0, output_tokens: words.length, reasoning_tokens: 0 };
  response.write(`data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', choices: [], usage: { prompt_tokens: 31, completion_tokens: words.length, total_tokens: 31 + words.length } })}\n\n`);
  response.end('data: [DONE]\n\n');
  call.timings_ms = { queue: 0.1, connect: 0, first_token: first, total: Date.now() - at };
  call.attempts = [{ provider: call.provider, model: call.model, started_ms: 0.2, duration_ms: call.timings_ms.total, http_status: 200, error: null, reason: null }];
  call.response.body = { choices: [{ index: 0, message: { role: 'assistant', content: words.join('') }, finish_reason: 'stop' }] };
  add_call(call);
}

// ------------------------------------------------------------------ management API
class Refused extends Error {
  constructor(status, code, message, field = null) {
    super(message);
    Object.assign(this, { status, code, field });
  }
}
const missing = (what) => new Refused(404, `${what}_not_found`, `There is no such ${what}.`);
const list = (items) => ({ items, next_cursor: null });
function find(items, field, value, what) {
  const found = items.find((one) => one[field] === value);
  if (!found) throw missing(what);
  return found;
}
function refuse_file(one, what) {
  if (one.origin === 'file') throw new Refused(409, 'owned_by_file', `This ${what} belongs to the configuration file. Change it there and reload.`);
}
function resource(name, what, field, make) {
  return {
    [`GET /api/${name}`]: () => list(store[name]),
    [`POST /api/${name}`]: ({ body }) => {
      if (!/^[a-z0-9][a-z0-9._-]*$/.test(body.name ?? '')) throw new Refused(422, 'invalid_name', 'A name has lower-case letters, digits, dots, dashes and underscores.', 'name');
      if (store[name].some((one) => one.name === body.name && what !== 'key')) throw new Refused(409, 'name_taken', `There is already a ${what} of this name.`, 'name');
      const made = make(body);
      store[name].push(made);
      return made;
    },
    [`GET /api/${name}/:id`]: ({ id }) => find(store[name], field, id, what),
    [`GET /api/${name}/:id/versions`]: ({ id }) => list([2, 1].map((version) => ({ version, hash: 'ab', author: 'grace@example.com', message: null, created_at: later(-3600e3 * (3 - version)), definition: find(store[name], field, id, what) }))),
    [`POST /api/${name}/:id/versions/:version/restore`]: ({ id }) => find(store[name], field, id, what),
    [`PATCH /api/${name}/:id`]: ({ id, body }) => {
      const one = find(store[name], field, id, what);
      refuse_file(one, what);
      return Object.assign(one, body);
    },
    [`DELETE /api/${name}/:id`]: ({ id }) => {
      const one = find(store[name], field, id, what);
      refuse_file(one, what);
      if (what === 'key') one.state = 'revoked';
      else store[name] = store[name].filter((other) => other !== one);
    },
  };
}
const session = () => ({
  user: { id: store.members[0].id, name: 'Grace Hopper', email: 'grace@example.com' }, key_id: null,
  project: { id: 'prj_1', name: 'default' }, role: args.role, permissions: permissions[args.role], csrf: CSRF, version: '0.1.0',
  projects: [{ id: 'prj_1', name: 'default' }],
});
const handlers = {
  'GET /api/session': () => session(),
  'DELETE /api/session': () => void (signed_in = false),
  'POST /api/session/project': () => ({}),
  'POST /api/projects': ({ body }) => ({ id: data.id('prj'), name: body.name }),
  ...resource('providers', 'provider', 'name', (body) => ({ ...body, api_key: body.api_key ? `${body.api_key.slice(0, 3)}…${body.api_key.slice(-4)}` : null, origin: 'database', status: { state: 'ok', last_error: null } })),
  'GET /api/providers/formats': () => list(data.formats),
  'POST /api/providers/:id/test': ({ id }) => (id === 'groq' ? { ok: false, latency_ms: 211, models: [], error: 'groq answered 401: Invalid API Key. Check the key.' } : { ok: true, latency_ms: 148, models: ['gpt-5', 'gpt-5-mini', 'gpt-4.1', 'text-embedding-3-small'], error: null }),
  ...resource('routes', 'route', 'name', (body) => ({ ...body, origin: 'database' })),
  'POST /api/routes/:id/test': ({ id }) => ({ ok: true, latency_ms: 812, provider: find(store.routes, 'name', id, 'route').targets[0].provider, model: find(store.routes, 'name', id, 'route').targets[0].model }),
  ...resource('keys', 'key', 'id', (body) => ({ ...key({ id: data.id('key'), name: body.name, prefix: 'cap_n3w0', user: body.user ?? null }, { created_at: now(), last_used_at: null }), ...body, secret: `cap_${randomBytes(20).toString('hex')}` })),
  'GET /api/models': () => list(store.models),
  'GET /api/models/catalogue': () => list(data.catalogue.map((one) => ({ ...one, installed: store.models.some((model) => model.name === one.name) }))),
  'POST /api/models/pull': ({ body }) => {
    const entry = find(data.catalogue, 'name', body.name, 'model');
    return start_job('model_pull', entry.name, entry.size, 'bytes', () => {
      store.models.push({ ...data.local_models[1], name: entry.name, size: entry.size, state: 'stopped' });
      emit('model', { name: entry.name });
    });
  },
  'POST /api/models': ({ body }) => {
    if (!body.file?.endsWith('.gguf')) throw new Refused(422, 'invalid_file', 'The file must end in .gguf and lie on the server.', 'file');
    const made = { ...data.local_models[1], name: body.file.split('/').pop().replace('.gguf', '').toLowerCase(), file: body.file };
    return start_job('model_add', made.name, 100, 'steps', () => {
      store.models.push(made);
      emit('model', made);
    });
  },
  'POST /api/models/:id/start': ({ id }) => {
    const model = find(store.models, 'name', id, 'model');
    model.state = 'starting';
    emit('model', model);
    setTimeout(() => (Object.assign(model, { state: 'ready', memory: (model.size * 1.3) | 0, loaded_at: now() }), emit('model', model)), 1500);
    return model;
  },
  'POST /api/models/:id/stop': ({ id }) => {
    const model = find(store.models, 'name', id, 'model');
    Object.assign(model, { state: 'stopped', memory: null });
    emit('model', model);
    return model;
  },
  'PATCH /api/models/:id': ({ id, body }) => Object.assign(find(store.models, 'name', id, 'model'), body),
  'DELETE /api/models/:id': ({ id }) => void (store.models = store.models.filter((one) => one.name !== id)),
  'GET /api/engine': () => engine,
  'POST /api/engine/install': () => {
    engine = { state: 'installing' };
    return start_job('engine_install', null, 100, 'steps', () => {
      engine = { state: 'ready', version: 'b8123', path: 'engine/llama-server', origin: 'debian' };
      emit('model', {});
    });
  },
  'GET /api/targets': () => list([
    ...store.routes.map((one) => ({ name: one.name, kind: 'route', description: one.description })),
    ...store.models.map((one) => ({ name: one.name, kind: 'local' })),
    ...store.providers.filter((one) => one.format !== 'engine').flatMap((one) => (one.format === 'anthropic' ? ['claude-sonnet-4-5', 'claude-haiku-4-5'] : ['gpt-5', 'gpt-5-mini']).map((model) => ({ name: `${one.name}/${model}`, kind: 'model', provider: one.name }))),
  ]),
  'GET /api/jobs': () => list(store.jobs),
  'GET /api/jobs/:id': ({ id }) => find(store.jobs, 'id', id, 'job'),
  'POST /api/jobs/:id/cancel': ({ id }) => Object.assign(find(store.jobs, 'id', id, 'job'), { state: 'cancelled' }),
  'GET /api/limits': () => list(store.limits),
  'PUT /api/limits/:kind/:id': ({ kind, id, body }) => {
    store.limits = store.limits.filter((one) => one.kind !== kind || one.value !== id);
    store.limits.push({ kind, value: id, ...body, spent: { day_usd: '0', month_usd: '0' } });
    return store.limits.at(-1);
  },
  'DELETE /api/limits/:kind/:id': ({ kind, id }) => void (store.limits = store.limits.filter((one) => one.kind !== kind || one.value !== id)),
  'GET /api/calls': ({ query }) => list_calls(query),
  'GET /api/spend': ({ query }) => spend(query),
  'GET /api/calls/stats': ({ query }) => stats(query),
  'GET /api/calls/:id': ({ id }) => {
    const call = find(calls, 'id', id, 'call');
    const text = (side) => ({ ...side, body: typeof side.body === 'string' ? side.body : JSON.stringify(side.body) });
    return { ...call, request: text(call.request), response: text(call.response) };
  },
  'DELETE /api/calls': ({ query }) => {
    const before = calls.length;
    calls = calls.filter((one) => one.user !== query.get('user'));
    return { erased: before - calls.length };
  },
  'DELETE /api/calls/:id': ({ id }) => void (calls = calls.filter((one) => one.id !== id)),
  'GET /api/feedback': ({ query }) => list(scores.filter((one) => one.target_id === query.get('id'))),
  'POST /api/feedback': ({ body }) => {
    const { id: target_id, value, comment = null, corrected = null } = body;
    const score = { id: 'score_1', target_id, name: 'feedback', value: value === undefined ? null : value === 'up', comment, corrected, author: 'Grace Hopper', updated_at: new Date().toISOString() };
    scores = [score, ...scores.filter((one) => one.target_id !== target_id)];
    return score;
  },
  'GET /api/members': () => list(store.members),
  'PATCH /api/members/:id': ({ id, body }) => Object.assign(find(store.members, 'id', id, 'member'), body),
  'DELETE /api/members/:id': ({ id }) => void (store.members = store.members.filter((one) => one.id !== id)),
  'GET /api/invites': () => list(store.invites),
  'POST /api/invites': ({ body }) => {
    const made = { id: data.id('inv'), ...body, created_at: now(), expires_at: later(7 * 86400e3) };
    store.invites.push(made);
    return { ...made, url: `http://127.0.0.1:${args.port}/#invite=inv_secret` };
  },
  'DELETE /api/invites/:id': ({ id }) => void (store.invites = store.invites.filter((one) => one.id !== id)),
  'GET /api/prices': ({ query }) => list(store.prices.filter((one) => `${one.provider}/${one.model}`.includes(query.get('q') ?? ''))),
  'PUT /api/prices/:kind/:id': ({ kind, id, body }) => {
    store.prices = store.prices.filter((one) => one.provider !== kind || one.model !== id);
    store.prices.unshift({ provider: kind, model: id, ...body, origin: 'database' });
    return store.prices[0];
  },
  'DELETE /api/prices/:kind/:id': ({ kind, id }) => void (store.prices = store.prices.filter((one) => one.provider !== kind || one.model !== id)),
  'GET /api/settings': () => store.settings,
  'PATCH /api/settings': ({ body }) => {
    if (body.retention_days !== undefined && body.retention_days !== null && body.retention_days < 1) throw new Refused(422, 'out_of_range', 'At least one day.', 'retention_days');
    return Object.assign(store.settings, body);
  },
  'GET /api/server': () => ({ version: '0.1.0', uptime_s: 86_512, loops: 2, memory: 13_811_712, data: '/var/lib/capstan', config: '/etc/capstan/capstan.yaml', listen: ['http://127.0.0.1:4100'], trace: { rows: calls.length, stored: calls.length, lost: 0, segments: 4, bytes: 61_000_000, disk_full: false }, engine: { version: 'b8123', origin: 'debian' } }),
  'GET /api/audit': () => list(store.audit),
  'GET /api/audit/verify': () => ({ ok: true, first_bad_entry: null }),
  'POST /api/reload': () => ({ ok: true }),
  'POST /api/backup': ({ body }) => start_job('backup', body.directory, 100, 'steps', () => {}),
};

function route(method, path) {
  const parts = path.split('/');
  const exact = handlers[`${method} ${path}`];
  if (exact) return [exact, {}];
  for (const [pattern, handler] of Object.entries(handlers)) {
    const [verb, form] = pattern.split(' ');
    const want = form.split('/');
    if (verb !== method || want.length !== parts.length) continue;
    const found = {};
    if (want.every((one, i) => (one.startsWith(':') ? ((found[one.slice(1)] = decodeURIComponent(parts[i])), true) : one === parts[i]))) return [handler, found];
  }
  throw new Refused(404, 'not_found', `Nothing answers ${method} ${path}.`);
}

async function read_body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const text = Buffer.concat(parts).toString();
  return text && request.headers['content-type']?.includes('json') ? JSON.parse(text) : text;
}
function answer(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', 'x-request-id': data.id('req'), ...headers });
  response.end(body === undefined ? '' : JSON.stringify(body));
}

async function serve_api(request, response, url) {
  const body = await read_body(request);
  if (latency_ms) await new Promise((done) => setTimeout(done, latency_ms));
  if (request.method === 'POST' && url.pathname === '/api/session') {
    if (body.key !== KEY && !body.password && body.token !== 'first') throw new Refused(401, 'key_unknown', 'This key is not known. Check that it was copied whole.', body.key ? 'key' : null);
    signed_in = true;
    return answer(response, 200, session());
  }
  if (url.pathname === '/api/invites/accept') {
    signed_in = true;
    return answer(response, 200, {});
  }
  if (!signed_in) throw new Refused(401, 'not_signed_in', 'Sign in first.');
  if (request.method !== 'GET' && request.headers['x-csrf-token'] !== CSRF) throw new Refused(403, 'csrf', 'The CSRF token is missing or old. Load the page again.');
  if (url.pathname === '/v1/chat/completions') return chat(request, response, body);
  if (url.pathname === '/api/events') {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write('retry: 2000\n\n');
    streams.add(response);
    return request.socket.on('close', () => streams.delete(response));
  }
  if (url.pathname === '/api/export') {
    response.writeHead(200, { 'content-type': 'application/yaml' });
    return response.end('routes:\n  smart: { targets: [ { provider: openai, model: gpt-5 } ] }\n');
  }
  const [handler, params] = route(request.method, url.pathname);
  const result = handler({ ...params, body, query: url.searchParams });
  answer(response, result === undefined ? 204 : 200, result);
}

// ------------------------------------------------------------------ the built console, as the server serves it
const types = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.html': 'text/html; charset=utf-8' };
async function serve_file(response, path) {
  const name = normalize(path).replace(/^\/+/, '');
  if (name.includes('.') && !name.startsWith('..')) {
    try {
      const file = await readFile(join(dist, name));
      response.writeHead(200, { 'content-type': types[extname(name)] ?? 'application/octet-stream' });
      return response.end(file);
    } catch {
      if (name.startsWith('assets/')) return answer(response, 404, { error: { code: 'not_found', message: 'No such file.' } });
    }
  }
  const nonce = randomBytes(16).toString('base64');
  const html = (await readFile(join(dist, 'index.html'), 'utf8')).replaceAll('__CSP_NONCE__', nonce);
  response.writeHead(200, {
    'content-type': types['.html'],
    'content-security-policy': `default-src 'none'; script-src 'self' 'nonce-${nonce}'; style-src 'self' 'nonce-${nonce}'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`,
  });
  response.end(html);
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://mock');
  try {
    if (/^\/(api|v1)\//.test(url.pathname)) await serve_api(request, response, url);
    else await serve_file(response, url.pathname);
  } catch (cause) {
    if (!(cause instanceof Refused)) console.error(cause);
    const { status = 500, code = 'internal', message, field = null } = cause;
    answer(response, status, { error: { code, message, field, request_id: data.id('req') } });
  }
});
server.listen(Number(args.port), '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port} (key: ${KEY})`));
