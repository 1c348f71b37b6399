// One pane of the playground: a model, its side of the conversation, and the call that runs.
import { ApiError, api, csrf_token, read_error, send as send_request, type Call } from '../api';
import { as_error } from './resource.svelte';
import { read_events } from './sse';

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

export interface Numbers {
  total_ms: number;
  first_token_ms: number | null;
  input_tokens: number | null;
  output_tokens: number | null;
  cost_usd: string | null | undefined; // undefined while the record is being asked for
  call_id: string | null;
  provider: string | null;
}

export interface ChatMessage {
  role: 'user' | 'assistant' | 'tool';
  text: string;
  images?: string[];
  thinking?: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
  numbers?: Numbers;
  error?: ApiError;
  stopped?: boolean;
}

export interface Parameters {
  system: string;
  tools: unknown[] | null;
  values: Record<string, unknown>; // temperature, top_p, max_tokens, …, as they go into the request
}

const RECORD_TRIES = 5;
const PAINT_MS = 33;

// The request's `messages` from what is on the screen; a failed answer is not part of it.
export function request_messages(system: string, messages: ChatMessage[]) {
  const out: unknown[] = system.trim() ? [{ role: 'system', content: system }] : [];
  for (const message of messages) {
    if (message.role === 'assistant') {
      if (message.error || (!message.text && !message.tool_calls?.length)) continue;
      out.push({
        role: 'assistant',
        content: message.text || null,
        ...(message.tool_calls?.length && {
          tool_calls: message.tool_calls.map((call) => ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } })),
        }),
      });
    } else if (message.role === 'tool') out.push({ role: 'tool', tool_call_id: message.tool_call_id, content: message.text });
    else if (message.images?.length) {
      out.push({
        role: 'user',
        content: [
          ...(message.text ? [{ type: 'text', text: message.text }] : []),
          ...message.images.map((url) => ({ type: 'image_url', image_url: { url } })),
        ],
      });
    } else out.push({ role: 'user', content: message.text });
  }
  return out;
}

let next_id = 1;

export class Pane {
  id = next_id++;
  model = $state('');
  messages = $state<ChatMessage[]>([]);
  running = $state(false);
  #abort: AbortController | null = null;

  constructor(model: string, messages: ChatMessage[] = []) {
    this.model = model;
    this.messages = messages;
  }

  request(parameters: Parameters) {
    return {
      model: this.model,
      messages: request_messages(parameters.system, this.messages),
      ...parameters.values,
      ...(parameters.tools?.length && { tools: parameters.tools }),
    };
  }

  stop() {
    this.#abort?.abort();
  }

  async run(parameters: Parameters) {
    if (this.running) return;
    const body = { ...this.request(parameters), stream: true, stream_options: { include_usage: true } };
    this.messages.push({ role: 'assistant', text: '' });
    const answer = this.messages[this.messages.length - 1];
    this.running = true;
    const abort = (this.#abort = new AbortController());
    const begun = performance.now();
    const numbers: Numbers = {
      total_ms: 0, first_token_ms: null, input_tokens: null, output_tokens: null, cost_usd: undefined, call_id: null, provider: null,
    };
    try {
      await this.#stream(body, answer, numbers, begun, abort.signal);
    } catch (cause) {
      if (abort.signal.aborted) answer.stopped = true;
      else answer.error = as_error(cause);
    }
    numbers.total_ms = performance.now() - begun;
    answer.numbers = numbers;
    this.running = false;
    this.#abort = null;
    if (numbers.call_id) await ask_record(answer, numbers.call_id);
    else answer.numbers.cost_usd = null;
  }

  async #stream(body: unknown, answer: ChatMessage, numbers: Numbers, begun: number, signal: AbortSignal) {
    const response = await fetch('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-csrf-token': csrf_token() },
      body: JSON.stringify(body),
      signal,
    }).catch((cause) => {
      if (signal.aborted) throw cause;
      throw new ApiError(0, 'unreachable', 'The server cannot be reached. Check that it runs, then try again.');
    });
    numbers.call_id = response.headers.get('x-capstan-call-id');
    numbers.provider = response.headers.get('x-capstan-provider');
    if (response.status === 401) await send_request('GET', '/api/session'); // has the session ended? then sign in again
    if (!response.ok) throw await read_error(response);

    // What comes is gathered and painted some thirty times a second: a fast model sends more often than eyes read.
    let text = '';
    let thinking = '';
    let painted = 0;
    const paint = () => {
      painted = performance.now();
      if (answer.text !== text) answer.text = text;
      if (thinking && answer.thinking !== thinking) answer.thinking = thinking;
    };
    try {
      for await (const { data } of read_events(response.body!)) {
        if (data === '[DONE]') break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(502, String(chunk.error.code ?? 'upstream'), chunk.error.message ?? 'The provider broke off.');
        if (chunk.usage) set_usage(numbers, chunk.usage);
        const delta = chunk.choices?.[0]?.delta;
        if (!delta) continue;
        const more = delta.content ?? '';
        const reasoning = delta.reasoning_content ?? delta.reasoning ?? '';
        if ((more || reasoning || delta.tool_calls) && numbers.first_token_ms === null) numbers.first_token_ms = performance.now() - begun;
        text += more;
        thinking += reasoning;
        for (const part of delta.tool_calls ?? []) add_tool_call(answer, part);
        if (performance.now() - painted > PAINT_MS) paint();
      }
    } finally {
      paint();
    }
  }
}

function set_usage(numbers: Numbers, usage: { prompt_tokens?: number; completion_tokens?: number; input_tokens?: number; output_tokens?: number }) {
  numbers.input_tokens = usage.prompt_tokens ?? usage.input_tokens ?? null;
  numbers.output_tokens = usage.completion_tokens ?? usage.output_tokens ?? null;
}

function add_tool_call(answer: ChatMessage, part: { index?: number; id?: string; function?: { name?: string; arguments?: string } }) {
  const calls = (answer.tool_calls ??= []);
  const index = part.index ?? calls.length;
  calls[index] ??= { id: part.id ?? `call_${index}`, name: '', arguments: '' };
  const call = calls[index];
  if (part.id) call.id = part.id;
  call.name += part.function?.name ?? '';
  call.arguments += part.function?.arguments ?? '';
}

// The record is the truth about money: it is there some milliseconds after the stream has ended.
async function ask_record(answer: ChatMessage, id: string) {
  for (let i = 0; i < RECORD_TRIES; i++) {
    await new Promise((done) => setTimeout(done, 80 * 2 ** i));
    try {
      const call = await api.get<Call>(`/api/calls/${id}`);
      const numbers = answer.numbers!;
      numbers.cost_usd = call.cost_usd ?? null;
      numbers.input_tokens ??= call.usage?.input_total ?? call.usage?.input_tokens ?? null;
      numbers.output_tokens ??= call.usage?.output_total ?? call.usage?.output_tokens ?? null;
      numbers.provider ??= call.provider ?? null;
      return;
    } catch (cause) {
      if (!(cause instanceof ApiError) || cause.status !== 404) break;
    }
  }
  answer.numbers!.cost_usd = null;
}
