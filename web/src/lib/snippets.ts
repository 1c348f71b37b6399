// Runnable examples that use this server's address.

export const base_url = () => `${location.origin}/v1`;

export interface ChatRequest {
  model: string;
  messages: unknown[];
  [parameter: string]: unknown;
}

const LINE_MAX = 76;

// JSON whose short parts stay on one line.
export function pretty(value: unknown, by = ''): string {
  const flat = JSON.stringify(value) ?? 'null';
  if (typeof value !== 'object' || value === null) return flat;
  const inner = `${by}  `;
  const list = Array.isArray(value);
  const parts = list
    ? value.map((one) => pretty(one, inner))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pretty(one, inner)}`);
  if (!parts.length) return flat;
  const line = list ? `[${parts.join(', ')}]` : `{ ${parts.join(', ')} }`;
  if (line.length + by.length < LINE_MAX && !line.includes('\n')) return line;
  const body = parts.map((part) => inner + part).join(',\n');
  return list ? `[\n${body}\n${by}]` : `{\n${body}\n${by}}`;
}

export function curl(request: ChatRequest) {
  const body = pretty(request, '  ').replace(/'/g, `'\\''`);
  return `curl ${base_url()}/chat/completions \\\n  -H "Authorization: Bearer $CAPSTAN_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${body}'`;
}

function python_value(value: unknown, by: string): string {
  const inner = `${by}    `;
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) {
    return value.length ? `[\n${value.map((one) => `${inner}${python_value(one, inner)},`).join('\n')}\n${by}]` : '[]';
  }
  if (typeof value === 'object') {
    const parts = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python_value(one, inner)}`);
    const line = `{${parts.join(', ')}}`;
    return line.length < 80 && !line.includes('\n') ? line : `{\n${parts.map((part) => `${inner}${part},`).join('\n')}\n${by}}`;
  }
  return JSON.stringify(value);
}

export function python(request: ChatRequest) {
  const args = Object.entries(request).map(([name, value]) => `    ${name}=${python_value(value, '    ')},`);
  const head = `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${base_url()}", api_key=os.environ["CAPSTAN_KEY"])\n\n`;
  const make = `client.chat.completions.create(\n${args.join('\n')}\n)`;
  if (request.stream) {
    return `${head}stream = ${make}\nfor chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="")\n`;
  }
  return `${head}answer = ${make}\nprint(answer.choices[0].message.content)\n`;
}

export function javascript(request: ChatRequest) {
  const head = `import OpenAI from 'openai';\n\nconst client = new OpenAI({ baseURL: '${base_url()}', apiKey: process.env.CAPSTAN_KEY });\n\n`;
  const make = `await client.chat.completions.create(${pretty(request)})`;
  if (request.stream) {
    return `${head}const stream = ${make};\nfor await (const chunk of stream) {\n  process.stdout.write(chunk.choices[0]?.delta?.content ?? '');\n}\n`;
  }
  return `${head}const answer = ${make};\nconsole.log(answer.choices[0].message.content);\n`;
}

export function examples(request: ChatRequest) {
  return [
    { name: 'curl', text: curl(request) },
    { name: 'Python', text: python(request) },
    { name: 'JavaScript', text: javascript(request) },
  ];
}

export const first_call = (model: string) => examples({ model, messages: [{ role: 'user', content: 'Say hello.' }] });
