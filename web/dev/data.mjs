// Made-up but plausible data of a busy gateway, the same on every start (a seeded generator).

export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
const rnd = random(7);
const pick = (list) => list[Math.floor(rnd() * list.length)];
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
export function id(prefix, at = Date.now()) {
  let text = '';
  let rest = at;
  for (let i = 0; i < 10; i++) {
    text = ALPHABET[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  for (let i = 0; i < 16; i++) text += pick(ALPHABET);
  return `${prefix}_${text}`;
}

const models = [
  { route: 'smart', provider: 'openai', model: 'gpt-5', price: [1.25, 10], ms: 2600, share: 5 },
  { route: 'smart', provider: 'anthropic', model: 'claude-sonnet-4-5', price: [3, 15], ms: 3100, share: 3 },
  { route: 'fast', provider: 'openai', model: 'gpt-5-mini', price: [0.25, 2], ms: 900, share: 6 },
  { route: null, provider: 'groq', model: 'llama-3.3-70b-versatile', price: [0.59, 0.79], ms: 420, share: 3 },
  { route: null, provider: 'local', model: 'smollm2-135m-instruct', price: null, ms: 650, share: 2 },
];
const people = ['ada', 'grace', 'edsger', 'barbara', 'ken', null, null];
const questions = [
  'Summarise the attached incident report in five bullet points for the weekly review.',
  'Which of our invoices from October are still open, and what do they sum to?',
  'Translate the release notes to German. Keep the product names.',
  'Write a regular expression that matches ISO 8601 dates.',
  'Explain to a customer why their refund takes three days. Be kind and brief.',
  'Extract name, street, postcode and city from this letter as JSON.',
  'What changed between version 2.3 and 2.4 of the API?',
];
const answers = [
  'Here are the five points:\n\n1. **Cause.** A full disk on the write path stopped the queue for 14 minutes.\n2. **Effect.** 312 jobs were late; none was lost.\n3. **Found by** the alert on queue age, four minutes in.\n4. **Fixed by** rotating the logs and moving them to their own volume.\n5. **Next.** A bound on log size, and a test that fills the disk.',
  'Three invoices are open: `2026-1041`, `2026-1055` and `2026-1060`. Together they come to **€ 8,412.50**.',
  'A refund goes back the way it came, and banks take two to three working days to show it. Yours left us this morning.',
];
export const keys = [
  { id: id('key', Date.parse('2026-09-02')), name: 'shop-production', prefix: 'cap_8f3k', user: null },
  { id: id('key', Date.parse('2026-09-14')), name: 'support-bot', prefix: 'cap_t20c', user: null },
  { id: id('key', Date.parse('2026-10-01')), name: 'notebooks', prefix: 'cap_91mz', user: 'research' },
];

function pick_model() {
  let at = rnd() * models.reduce((sum, one) => sum + one.share, 0);
  return models.find((one) => (at -= one.share) < 0) ?? models[0];
}

export function make_call(at) {
  const m = pick_model();
  const slow = Math.exp((rnd() + rnd() + rnd() - 1.5) * 0.9);
  const total = m.ms * slow;
  const failed = rnd() < 0.035;
  const tokens_in = Math.floor(60 + rnd() ** 3 * 6000);
  const cached = rnd() < 0.3 ? Math.floor(tokens_in * 0.6) : 0;
  const tokens_out = failed ? 0 : Math.floor(20 + rnd() ** 2 * 900);
  const reasoning = m.model === 'gpt-5' && !failed ? Math.floor(tokens_out * 0.4) : 0;
  const key = pick(keys);
  const retried = !failed && rnd() < 0.05;
  const error = failed
    ? pick([
        { code: 'upstream_rate_limited', message: 'openai answered 429: Rate limit reached for gpt-5. Try again in 12 s, or give the route a fallback.', http: 429 },
        { code: 'first_token_timeout', message: 'No first token within 20 s from anthropic. Raise timeout.first_token_ms of the route, or add a fallback.', http: 504 },
        { code: 'context_length', message: 'The request has 131,442 tokens; the model takes 128,000.', http: 400 },
      ])
    : null;
  const cost = m.price ? (tokens_in - cached) * m.price[0] + cached * m.price[0] * 0.1 + tokens_out * m.price[1] : null;
  const question = pick(questions);
  const call_id = id('call', at);
  const first_token = failed ? null : Math.min(total * 0.8, 180 + m.ms * 0.22 * slow);
  const connect = rnd() < 0.15 ? 18 + rnd() * 30 : 0;
  return {
    id: call_id,
    trace_id: Array.from({ length: 32 }, () => pick('0123456789abcdef')).join(''),
    span_id: Array.from({ length: 16 }, () => pick('0123456789abcdef')).join(''),
    parent_id: null,
    project: 'default',
    started_at: new Date(at).toISOString(),
    door: 'openai_chat',
    operation: 'chat',
    model_requested: m.route ?? `${m.provider}/${m.model}`,
    route: m.route,
    provider: m.provider,
    model: m.model,
    status: failed ? 'error' : 'ok',
    http_status: error?.http ?? 200,
    error: error && { code: error.code, message: error.message },
    key: { id: key.id, name: key.name },
    user: pick(people),
    session: rnd() < 0.5 ? `s-${Math.floor(rnd() * 60)}` : null,
    tags: rnd() < 0.6 ? { app: key.name.split('-')[0], env: pick(['prod', 'prod', 'staging']) } : {},
    stream: rnd() < 0.7,
    timings_ms: { queue: rnd() * 0.3, connect, first_token, total: failed ? total * 0.3 : total },
    usage: { input_tokens: tokens_in - cached, cached_input_tokens: cached, cache_write_tokens: 0, output_tokens: tokens_out - reasoning, reasoning_tokens: reasoning, input_total: tokens_in, output_total: tokens_out, known: true, estimated: false },
    cost_usd: cost === null ? null : (cost / 1e6).toFixed(12).replace(/0+$/, '').replace(/\.$/, ''),
    cost_detail: m.price
      ? [
          { bucket: 'input_tokens', tokens: tokens_in - cached, price_usd_per_mtok: String(m.price[0]), cost_usd: (((tokens_in - cached) * m.price[0]) / 1e6).toFixed(9) },
          ...(cached ? [{ bucket: 'cached_input_tokens', tokens: cached, price_usd_per_mtok: String(m.price[0] / 10), cost_usd: ((cached * m.price[0]) / 1e7).toFixed(9) }] : []),
          { bucket: 'output_tokens', tokens: tokens_out, price_usd_per_mtok: String(m.price[1]), cost_usd: ((tokens_out * m.price[1]) / 1e6).toFixed(9) },
        ]
      : [],
    finish_reason: failed ? null : 'stop',
    attempts: [
      ...(retried
        ? [{ provider: 'openai', model: 'gpt-5', started_ms: 0.2, duration_ms: 310, http_status: 429, error: 'upstream_rate_limited', reason: 'rate' }]
        : []),
      { provider: m.provider, model: m.model, started_ms: retried ? 560 : 0.2, duration_ms: failed ? total * 0.3 : total, http_status: error?.http ?? 200, error: error && error.code, reason: error ? 'error' : null },
    ],
    cache: rnd() < 0.04 ? 'hit' : 'off',
    checks: [],
    capture: 'full',
    request: {
      headers: { 'content-type': 'application/json', 'user-agent': 'OpenAI/Python 2.3.0', 'x-capstan-user': 'ada' },
      body: {
        model: m.route ?? `${m.provider}/${m.model}`,
        messages: [
          { role: 'system', content: 'You are the assistant of a small shop. Answer briefly and correctly.' },
          { role: 'user', content: question },
        ],
        temperature: 0.3,
        stream: true,
      },
    },
    response: failed
      ? { body: { error: { code: error.code, message: error.message } } }
      : {
          body: {
            id: 'chatcmpl-1',
            object: 'chat.completion',
            model: m.model,
            choices: [{ index: 0, message: { role: 'assistant', content: pick(answers) }, finish_reason: 'stop' }],
            usage: { prompt_tokens: tokens_in, completion_tokens: tokens_out, total_tokens: tokens_in + tokens_out },
          },
        },
    client: { ip: '10.2.0.14', agent: 'OpenAI/Python 2.3.0' },
  };
}

// Office hours are busier than nights.
export function make_calls(n, days, now = Date.now()) {
  const calls = [];
  while (calls.length < n) {
    const at = now - rnd() ** 1.6 * days * 86_400_000;
    const hour = new Date(at).getHours();
    if (rnd() < 0.25 + 0.75 * Math.exp(-(((hour - 14) / 5) ** 2))) calls.push(make_call(at));
  }
  return calls.sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
}

const origin = 'database';
export const providers = [
  { name: 'openai', format: 'openai', base_url: 'https://api.openai.com/v1', api_key: 'sk-…x4Qm', headers: {}, http2: true, origin: 'file', status: { state: 'ok', last_error: null } },
  { name: 'anthropic', format: 'anthropic', base_url: 'https://api.anthropic.com', api_key: 'sk-…9aZk', headers: {}, http2: true, origin: 'file', status: { state: 'ok', last_error: null } },
  { name: 'groq', format: 'openai', base_url: 'https://api.groq.com/openai/v1', api_key: 'gsk…81Lp', headers: {}, http2: true, origin, status: { state: 'cooling', last_error: 'Answered 429: the key may call again in 8 s.' } },
  { name: 'local', format: 'engine', base_url: null, api_key: null, headers: {}, http2: false, origin: 'file', status: { state: 'ok', last_error: null } },
];
export const routes = [
  {
    name: 'smart',
    description: 'The best answer, from whoever is up',
    targets: [
      { provider: 'openai', model: 'gpt-5', weight: 3 },
      { provider: 'anthropic', model: 'claude-sonnet-4-5', weight: 1 },
    ],
    balance: 'weighted', retry: 2, fallback: { on: ['rate', 'overload', 'error'] },
    timeout: { connect_ms: 3000, first_token_ms: 20000, between_ms: 15000, total_ms: 300000 },
    cache: null, checks: [], capture: null, pass_headers: [], origin: 'file',
  },
  {
    name: 'fast',
    description: 'Short answers in under a second',
    targets: [
      { provider: 'openai', model: 'gpt-5-mini', weight: 1 },
      { provider: 'groq', model: 'llama-3.3-70b-versatile', weight: 1, when: "tags.env == 'staging'" },
    ],
    balance: 'ordered', retry: 1, fallback: { on: ['any'] }, timeout: { first_token_ms: 4000 }, cache: { ttl_s: 600 },
    checks: [{ name: 'no card numbers', on: 'both', kind: 'pii', pattern: 'credit_card', action: 'mask' }],
    capture: 'metadata', pass_headers: [], origin,
  },
];
export const local_models = [
  { name: 'smollm2-135m-instruct', file: 'model/SmolLM2-135M-Instruct.Q4_1.gguf', size: 98362432, sha256: '6f3cc1ae7f3a9c1f', licence: 'Apache-2.0', state: 'ready', memory: 214958080, context: 8192, slots: 4, port: 40117, error: null, loaded_at: new Date(Date.now() - 3600e3).toISOString(), last_used_at: new Date(Date.now() - 40e3).toISOString() },
  { name: 'qwen3-4b-instruct', file: 'model/Qwen3-4B-Instruct-Q4_K_M.gguf', size: 2497281120, sha256: 'a0b1', licence: 'Apache-2.0', state: 'stopped', memory: null, context: 32768, slots: 2, port: null, error: null, loaded_at: null, last_used_at: new Date(Date.now() - 86400e3).toISOString() },
];
export const catalogue = [
  { name: 'smollm2-135m-instruct', description: 'Proves that everything works. Knows little.', parameters: 134515008, size: 98362432, licence: 'Apache-2.0', context: 8192, installed: true },
  { name: 'smollm2-1.7b-instruct', description: 'Short answers and summaries on any laptop.', parameters: 1711376384, size: 1055609536, licence: 'Apache-2.0', context: 8192, installed: false },
  { name: 'qwen3-4b-instruct', description: 'A good all-rounder for 8 GB of memory. Tools.', parameters: 4022468096, tools: true, size: 2497281120, licence: 'Apache-2.0', context: 32768, installed: true },
  { name: 'qwen3-8b-instruct', description: 'Better reasoning, for 16 GB of memory. Tools.', parameters: 8190735360, tools: true, size: 5027783488, licence: 'Apache-2.0', context: 32768, installed: false },
  { name: 'nomic-embed-text-v1.5', description: 'Embeddings for search, 768 dimensions.', parameters: 136727040, size: 146146432, licence: 'Apache-2.0', context: 2048, installed: false },
];
export const prices = [
  { provider: 'openai', model: 'gpt-5', prices: { input_tokens: '1.25', cached_input_tokens: '0.125', output_tokens: '10.00' }, origin: 'built-in' },
  { provider: 'openai', model: 'gpt-5-mini', prices: { input_tokens: '0.25', cached_input_tokens: '0.025', output_tokens: '2.00' }, origin: 'built-in' },
  { provider: 'anthropic', model: 'claude-sonnet-4-5', prices: { input_tokens: '3.00', cached_input_tokens: '0.30', cache_write_tokens: '3.75', output_tokens: '15.00' }, tiered: true, context_tokens: 200000, origin: 'built-in' },
  { provider: 'groq', model: 'llama-3.3-70b-versatile', prices: { input_tokens: '0.59', output_tokens: '0.79' }, origin: 'database' },
];
export const formats = [
  ['openai', 'OpenAI', 'https://api.openai.com/v1'], ['anthropic', 'Anthropic', 'https://api.anthropic.com'], ['azure', 'Azure OpenAI', ''],
  ['mistral', 'Mistral', 'https://api.mistral.ai/v1'], ['groq', 'Groq', 'https://api.groq.com/openai/v1'], ['ollama', 'Ollama', 'http://127.0.0.1:11434/v1'],
  ['vllm', 'vLLM', 'http://127.0.0.1:8000/v1'], ['engine', 'local engine', ''],
].map(([name, title, base_url]) => ({ name, title, base_url, needs_key: !['ollama', 'engine'].includes(name) }));
export { answers };
