// The OpenAI and Anthropic SDKs for JavaScript and the Vercel AI SDK, unmodified. CAPSTAN_URL and CAPSTAN_KEY name a
// server with the routes `smart` (to an OpenAI upstream) and `sonnet` (to an Anthropic one).
import assert from "node:assert/strict";
import test from "node:test";

// CAPSTAN_SDK=-before: the major version before the newest one of each.
const which = process.env.CAPSTAN_SDK ?? "";
const { default: Anthropic } = await import(`@anthropic-ai/sdk${which}`);
const { default: OpenAI } = await import(`openai${which}`);
const { createAnthropic } = await import(`@ai-sdk/anthropic${which}`);
const { createOpenAI } = await import(`@ai-sdk/openai${which}`);
const { generateText, jsonSchema, streamText, tool } = await import(`ai${which}`);

const url = process.env.CAPSTAN_URL, key = process.env.CAPSTAN_KEY;
const messages = [{ role: "user", content: "Say hello." }];
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const vercel = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

for (const model of ["smart", "sonnet"]) {
  test(`openai: chat, whole (${model})`, async () => {
    const answer = await openai.chat.completions.create({ model, messages });
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer.usage.total_tokens > 0);
  });

  test(`openai: chat, streamed with usage (${model})`, async () => {
    let text = "", usage;
    const stream = await openai.chat.completions.create({
      model, messages, stream: true, stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.ok(text && usage.completion_tokens > 0);
  });

  test(`openai: tools (${model})`, async () => {
    const answer = await openai.chat.completions.create({ model, messages, tools: [weather], tool_choice: "required" });
    assert.equal(answer.choices[0].message.tool_calls[0].function.name, "get_weather");
  });

  test(`openai: responses, streamed (${model})`, async () => {
    const stream = openai.responses.stream({ model, input: "Say hello.", store: false });
    const final = await stream.finalResponse();
    assert.equal(final.status, "completed");
    assert.ok(final.output_text);
  });

  test(`anthropic: whole and streamed (${model})`, async () => {
    const whole = await anthropic.messages.create({ model, max_tokens: 50, messages });
    assert.ok(whole.content[0].text);
    const final = await anthropic.messages.stream({ model, max_tokens: 50, messages }).finalMessage();
    assert.ok(final.content[0].text && final.usage.output_tokens > 0);
  });

  test(`vercel: text, stream, tool (${model})`, async () => {
    for (const at of [vercel.chat(model), vercel.responses(model)]) {
      assert.ok((await generateText({ model: at, prompt: "Say hello." })).text);
      let text = "";
      for await (const part of streamText({ model: at, prompt: "Say hello." }).textStream) text += part;
      assert.ok(text);
    }
    const get_weather = tool({
      inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    });
    const called = await generateText({
      model: vercel.chat(model), prompt: "Weather?", tools: { get_weather }, toolChoice: "required",
    });
    assert.equal(called.toolCalls[0].toolName, "get_weather");
  });
}

test("vercel: Anthropic's provider", async () => {
  const claude = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
  assert.ok((await generateText({ model: claude("sonnet"), prompt: "Say hello." })).text);
});

test("errors are the SDKs' own", async () => {
  await assert.rejects(openai.chat.completions.create({ model: "nothing", messages }), OpenAI.NotFoundError);
  await assert.rejects(new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 }).models.list(),
    OpenAI.AuthenticationError);
  await assert.rejects(anthropic.messages.create({ model: "nothing", max_tokens: 5, messages }),
    Anthropic.NotFoundError);
});
