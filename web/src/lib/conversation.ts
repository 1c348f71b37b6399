// A call's bodies as the conversation they are, whichever of the three formats they have:
// OpenAI chat (`messages`, `choices`), OpenAI Responses (`input`, `output`), Anthropic (`system`, `messages`, `content`).

export type Part =
  | { kind: 'text' | 'thinking'; text: string }
  | { kind: 'image'; url: string }
  | { kind: 'tool_call'; name: string; id?: string; text: string }
  | { kind: 'tool_result'; name?: string; text: string }
  | { kind: 'other'; value: unknown };

export interface Turn {
  role: string;
  parts: Part[];
}

type Json = Record<string, unknown>;
const is_object = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);
const as_text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value, null, 2));

// A body as it was kept: text that is JSON, or the events of a stream, or neither.
export function body_of(body: unknown): unknown {
  if (typeof body !== 'string') return body;
  const text = body.trimStart();
  if (/^(event|data|id|retry):|^:/.test(text)) return assemble(text) ?? body;
  if (!/^[[{"]/.test(text)) return body;
  try {
    return JSON.parse(text);
  } catch {
    return body;
  }
}

// A stream's events put together to the whole answer, in the format that they have.
function assemble(text: string): unknown {
  const events: Json[] = [];
  for (const line of text.split(/\r\n|\r|\n/)) {
    if (!line.startsWith('data:')) continue;
    try {
      const value = JSON.parse(line.slice(5));
      if (is_object(value)) events.push(value);
    } catch {
      // [DONE], or where the copy was cut
    }
  }
  if (events.some((event) => Array.isArray(event.choices))) return assemble_chat(events);
  const done = events.find((event) => event.type === 'response.completed' || event.type === 'response.incomplete');
  if (is_object(done?.response)) return done.response;
  if (events.some((event) => event.type === 'message_start')) return assemble_messages(events);
  return events.length ? events : null;
}

function assemble_chat(events: Json[]): Json {
  const whole: Json = {};
  const choices: { index: number; message: Json & { tool_calls?: Json[] }; finish_reason: unknown }[] = [];
  for (const event of events) {
    const { choices: parts, ...rest } = event;
    for (const [name, value] of Object.entries(rest)) if (value !== null) whole[name] = value;
    for (const part of Array.isArray(parts) ? (parts as Json[]) : []) {
      const index = Number(part.index ?? 0);
      const choice = (choices[index] ??= { index, message: { role: 'assistant', content: null }, finish_reason: null });
      if (part.finish_reason) choice.finish_reason = part.finish_reason;
      add_delta(choice.message, (part.delta ?? {}) as Json);
    }
  }
  return { ...whole, object: 'chat.completion', choices: choices.filter(Boolean) };
}

function add_delta(message: Json & { tool_calls?: Json[] }, delta: Json) {
  for (const [name, value] of Object.entries(delta)) {
    if (name === 'tool_calls' && Array.isArray(value)) {
      const calls = (message.tool_calls ??= []);
      for (const part of value as Json[]) {
        const index = Number(part.index ?? calls.length);
        const call = (calls[index] ??= { id: part.id, type: 'function', function: { name: '', arguments: '' } }) as Json & { function: Json };
        const more = (part.function ?? {}) as Json;
        call.function.name = String(call.function.name) + (more.name ?? '');
        call.function.arguments = String(call.function.arguments) + (more.arguments ?? '');
      }
    } else if (typeof value === 'string' && name !== 'role') message[name] = String(message[name] ?? '') + value;
    else if (value !== null) message[name] = value;
  }
}

function assemble_messages(events: Json[]): Json {
  let message: Json = {};
  const content: Json[] = [];
  for (const event of events) {
    const index = Number(event.index ?? 0);
    if (event.type === 'message_start') message = { ...(event.message as Json) };
    else if (event.type === 'content_block_start') content[index] = { ...(event.content_block as Json) };
    else if (event.type === 'content_block_delta' && content[index]) {
      const delta = event.delta as Json;
      const block = content[index];
      if (typeof delta.text === 'string') block.text = String(block.text ?? '') + delta.text;
      else if (typeof delta.thinking === 'string') block.thinking = String(block.thinking ?? '') + delta.thinking;
      else if (typeof delta.partial_json === 'string') block.partial = String(block.partial ?? '') + delta.partial_json;
      else if (typeof delta.signature === 'string') block.signature = delta.signature;
    } else if (event.type === 'message_delta') {
      Object.assign(message, event.delta);
      message.usage = { ...(message.usage as Json), ...(event.usage as Json) };
    }
  }
  for (const block of content) {
    if (!block || typeof block.partial !== 'string') continue;
    try {
      block.input = JSON.parse(block.partial);
    } catch {
      block.input = block.partial;
    }
    delete block.partial;
  }
  return { ...message, content: content.filter(Boolean) };
}

function image_of(part: Json): string | null {
  const { image_url, source } = part;
  if (typeof image_url === 'string') return image_url;
  if (is_object(image_url) && typeof image_url.url === 'string') return image_url.url;
  if (is_object(source)) {
    if (typeof source.url === 'string') return source.url;
    if (typeof source.data === 'string') return `data:${source.media_type};base64,${source.data}`;
  }
  return null;
}

function parts_of(content: unknown): Part[] {
  if (content === null || content === undefined || content === '') return [];
  if (typeof content === 'string') return [{ kind: 'text', text: content }];
  if (!Array.isArray(content)) return [{ kind: 'other', value: content }];
  return content.flatMap((part): Part[] => {
    if (typeof part === 'string') return [{ kind: 'text', text: part }];
    if (!is_object(part)) return [{ kind: 'other', value: part }];
    const type = String(part.type ?? 'text');
    if (type === 'thinking' || type === 'reasoning') {
      const summary = Array.isArray(part.summary) ? part.summary.map((one) => one?.text ?? '').join('\n') : '';
      return [{ kind: 'thinking', text: String(part.thinking ?? part.text ?? summary) }];
    }
    if (/^(text|input_text|output_text)$/.test(type) && typeof part.text === 'string') return [{ kind: 'text', text: part.text }];
    const image = image_of(part);
    if (image) return [{ kind: 'image', url: image }];
    if (type === 'tool_use') return [{ kind: 'tool_call', name: String(part.name), id: String(part.id ?? ''), text: as_text(part.input) }];
    if (type === 'tool_result') return [{ kind: 'tool_result', text: parts_of(part.content).map((one) => ('text' in one ? one.text : '')).join('\n') }];
    return [{ kind: 'other', value: part }];
  });
}

function turn_of(message: Json): Turn {
  const role = String(message.role ?? (message.type === 'function_call_output' ? 'tool' : 'assistant'));
  const parts: Part[] = [];
  const thinking = message.reasoning_content ?? message.reasoning;
  if (typeof thinking === 'string' && thinking) parts.push({ kind: 'thinking', text: thinking });
  if (message.type === 'function_call') parts.push({ kind: 'tool_call', name: String(message.name), id: String(message.call_id ?? ''), text: as_text(message.arguments) });
  else if (message.type === 'function_call_output') parts.push({ kind: 'tool_result', text: as_text(message.output) });
  else if (message.type === 'reasoning') parts.push(...parts_of([message]).filter((part) => part.kind !== 'thinking' || part.text));
  else if (role === 'tool') parts.push({ kind: 'tool_result', name: message.name as string, text: parts_of(message.content).map((one) => ('text' in one ? one.text : '')).join('\n') });
  else parts.push(...parts_of(message.content));
  for (const call of Array.isArray(message.tool_calls) ? message.tool_calls : []) {
    parts.push({ kind: 'tool_call', name: call?.function?.name ?? '', id: call?.id, text: call?.function?.arguments ?? '' });
  }
  if (typeof message.refusal === 'string' && message.refusal) parts.push({ kind: 'text', text: message.refusal });
  return { role, parts };
}

export function request_turns(body: unknown): Turn[] | null {
  if (!is_object(body)) return null;
  const turns: Turn[] = [];
  const system = body.system ?? body.instructions;
  if (system) turns.push({ role: 'system', parts: parts_of(system) });
  const list = body.messages ?? body.input;
  if (typeof list === 'string') turns.push({ role: 'user', parts: parts_of(list) });
  else if (Array.isArray(list)) {
    if (!list.every(is_object)) return null;
    turns.push(...list.map(turn_of));
  } else if (typeof body.prompt === 'string') turns.push({ role: 'user', parts: parts_of(body.prompt) });
  return turns.length ? turns : null;
}

export function response_turns(body: unknown): Turn[] | null {
  if (!is_object(body)) return null;
  if (Array.isArray(body.choices)) {
    return body.choices.filter(is_object).map((choice) =>
      is_object(choice.message) ? turn_of({ role: 'assistant', ...choice.message }) : { role: 'assistant', parts: parts_of(choice.text) },
    );
  }
  if (Array.isArray(body.output)) return body.output.filter(is_object).map(turn_of);
  if (Array.isArray(body.content)) return [turn_of({ role: 'assistant', content: body.content })];
  return null;
}

// What the playground starts from when it replays a call: chat messages, whatever the call's own format was.
export function chat_messages(body: unknown): { system: string; messages: { role: string; text: string; images: string[] }[]; tools: unknown } {
  const turns = request_turns(body) ?? [];
  const text_of = (turn: Turn) =>
    turn.parts.map((part) => ('text' in part && part.kind !== 'thinking' ? part.text : '')).filter(Boolean).join('\n');
  const system = turns.filter((turn) => turn.role === 'system' || turn.role === 'developer').map(text_of).join('\n\n');
  const messages = turns
    .filter((turn) => turn.role !== 'system' && turn.role !== 'developer')
    .map((turn) => ({
      role: turn.role,
      text: text_of(turn),
      images: turn.parts.flatMap((part) => (part.kind === 'image' ? [part.url] : [])),
    }));
  return { system, messages, tools: is_object(body) ? body.tools : undefined };
}
