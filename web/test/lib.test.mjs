// The console's own parsers, loaded through Vite as the browser gets them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createServer } from 'vite';

let vite, markdown, conversation, format, snippets, sse, line_diff;
before(async () => {
  globalThis.location = new URL('http://127.0.0.1:4100/');
  vite = await createServer({ root: new URL('..', import.meta.url).pathname, server: { middlewareMode: true, ws: false }, logLevel: 'error' });
  [markdown, conversation, format, snippets, sse, line_diff] = await Promise.all(
    ['markdown', 'conversation', 'format', 'snippets', 'sse', 'line_diff'].map((name) => vite.ssrLoadModule(`/src/lib/${name}.ts`)),
  );
});
after(() => vite?.close());

test('markdown: blocks', () => {
  const found = markdown.parse_markdown('# Title\n\nOne\ntwo.\n\n- a\n  - b\n- c\n\n1. x\n\n2. y\n\n```js\nlet a = "*";\n```\n> said\n\n| h | i |\n|---|---|\n| 1 | 2 |\n\n---');
  assert.deepEqual(found.map((block) => block.kind), ['heading', 'paragraph', 'list', 'list', 'code', 'quote', 'table', 'rule']);
  assert.equal(found[2].items.length, 2);
  assert.equal(found[2].items[0][1].kind, 'list');
  assert.equal(found[3].items.length, 2);
  assert.equal(found[4].text, 'let a = "*";');
  assert.deepEqual(found[6].rows[0].map((cell) => cell[0].text), ['1', '2']);
});

test('markdown: a fence that is still being written is code already', () => {
  assert.deepEqual(markdown.parse_markdown('```py\nprint(1)'), [{ kind: 'code', language: 'py', text: 'print(1)' }]);
});

test('markdown: inline, and addresses that are no pages stay text', () => {
  const [paragraph] = markdown.parse_markdown('a **b `c`** *d* ~~e~~ snake_case_name 2 * 3 * 4 [f](https://x.org) [g](javascript:alert(1)) https://y.org/z.');
  assert.deepEqual(
    paragraph.children.map((part) => part.kind),
    ['text', 'strong', 'text', 'em', 'text', 'del', 'text', 'link', 'text', 'text', 'text', 'link', 'text'],
  );
  assert.ok(!JSON.stringify(paragraph).includes('"href":"javascript'));
  assert.equal(paragraph.children.at(-2).href, 'https://y.org/z');
});

test('markdown: hostile text ends soon', () => {
  const start = performance.now();
  for (const text of ['**'.repeat(5000), '> '.repeat(2000), '[a]('.repeat(5000), '- '.repeat(3000), '`'.repeat(9999), '_a'.repeat(5000)]) markdown.parse_markdown(text);
  assert.ok(performance.now() - start < 5000);
});

test('conversation: chat, messages and responses', () => {
  const chat = conversation.request_turns({
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'text', text: 'What?' }, { type: 'image_url', image_url: { url: 'data:image/png;base64,AA' } }] },
      { role: 'assistant', content: null, tool_calls: [{ id: 't1', function: { name: 'look', arguments: '{}' } }] },
      { role: 'tool', tool_call_id: 't1', content: 'a cat' },
    ],
  });
  assert.deepEqual(chat.map((turn) => turn.parts.map((part) => part.kind)), [['text'], ['text', 'image'], ['tool_call'], ['tool_result']]);
  const messages = conversation.request_turns({ system: 'Be brief.', messages: [{ role: 'user', content: [{ type: 'tool_result', content: 'ok' }] }] });
  assert.deepEqual(messages.map((turn) => turn.role), ['system', 'user']);
  const responses = conversation.request_turns({ instructions: 'Be brief.', input: 'Hello' });
  assert.deepEqual(responses.map((turn) => turn.parts[0].text), ['Be brief.', 'Hello']);
  const output = conversation.response_turns({ output: [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'Hi' }] }] });
  assert.equal(output[0].parts[0].text, 'Hi');
});

test('conversation: streams are put together', () => {
  const chat = ['{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}', '{"choices":[{"index":0,"delta":{"content":"lo","tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{\\"a\\""}}]}}]}', '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}', '[DONE]'];
  const whole = conversation.body_of(chat.map((data) => `data: ${data}\n\n`).join(''));
  assert.equal(whole.choices[0].message.content, 'Hello');
  assert.equal(whole.choices[0].message.tool_calls[0].function.arguments, '{"a":1}');
  assert.equal(whole.choices[0].finish_reason, 'stop');
  assert.equal(whole.usage.prompt_tokens, 3);

  const events = [
    { type: 'message_start', message: { role: 'assistant', usage: { input_tokens: 5 } } },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi' } },
    { type: 'content_block_start', index: 1, content_block: { type: 'tool_use', name: 'f', input: {} } },
    { type: 'content_block_delta', index: 1, delta: { type: 'input_json_delta', partial_json: '{"a":2}' } },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 7 } },
  ];
  const message = conversation.body_of(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(''));
  assert.equal(message.content[0].text, 'Hi');
  assert.deepEqual(message.content[1].input, { a: 2 });
  assert.deepEqual(message.usage, { input_tokens: 5, output_tokens: 7 });

  const responses = 'event: response.completed\ndata: {"type":"response.completed","response":{"output":[]}}\n\n';
  assert.deepEqual(conversation.body_of(responses), { output: [] });
  assert.equal(conversation.body_of('not JSON'), 'not JSON');
  assert.equal(conversation.body_of(null), null);
});

test('server-sent events: any split gives the same events', async () => {
  const text = 'data: {"a":1}\r\n\r\n: note\n\nevent: x\ndata: one\ndata: two\n\ndata:ä€\n\n';
  const bytes = new TextEncoder().encode(text);
  const read = async (size) => {
    const stream = new ReadableStream({
      start(controller) {
        for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.slice(i, i + size));
        controller.close();
      },
    });
    const found = [];
    for await (const event of sse.read_events(stream)) found.push(event);
    return found;
  };
  const whole = await read(bytes.length);
  assert.deepEqual(whole.map((event) => event.data), ['{"a":1}', 'one\ntwo', 'ä€']);
  for (let size = 1; size < bytes.length; size++) assert.deepEqual(await read(size), whole, `chunks of ${size}`);
});

test('format: what people read', () => {
  assert.equal(format.short(1234), '1.2k');
  assert.equal(format.short(999_960), '1M');
  assert.equal(format.duration(0.25), '250 µs');
  assert.equal(format.duration(61_000), '1 m 1 s');
  assert.equal(format.money('0.000123'), '$0.00012');
  assert.equal(format.money('12.4471'), '$12.45');
  assert.equal(format.money('0'), '$0');
  assert.equal(format.money(null), '–');
  assert.equal(format.bytes(98_362_432), '98.4 MB');
  assert.equal(format.ago(new Date(Date.now() - 7200e3).toISOString()), '2 h ago');
  assert.equal(format.percent(1, 3000), '<0.1%');
});

test('snippets: quotes and the three languages', () => {
  const request = { model: 'm', stream: true, messages: [{ role: 'user', content: "It's \"so\"" }], top_p: null };
  assert.match(snippets.curl(request), /It'\\''s \\"so\\"/);
  assert.match(snippets.python(request), /stream=True/);
  assert.match(snippets.python(request), /top_p=None/);
  assert.match(snippets.javascript(request), /for await/);
  assert.match(snippets.curl(request), /http:\/\/127\.0\.0\.1:4100\/v1\/chat\/completions/);
});

test('lines compared: either text can be had back from the parts, and the edit is the shortest', () => {
  const side = (parts, without) => parts.filter((one) => one.op !== without).flatMap((one) => one.lines).join('\n');
  const cases = [['a\nb\nc', 'a\nx\nc', 2], ['', 'a', 2], ['a\nb\nc\nd', 'b\nc\nd\ne', 2], ['same', 'same', 0], ['a\na\na', 'a\na', 1]];
  for (const [before, after, changes] of cases) {
    const parts = line_diff.diff_lines(before, after);
    assert.equal(side(parts, 'insert'), before);
    assert.equal(side(parts, 'delete'), after);
    assert.equal(parts.filter((one) => one.op !== 'equal').flatMap((one) => one.lines).length, changes);
  }
});
