// Tools as the console edits them: what the server's docs/tools.md describes, and the texts of a form.
export type ToolKind = 'http' | 'openapi' | 'mcp' | 'pipeline' | 'retrieval';
export interface Tool {
  name: string;
  kind: ToolKind;
  description?: string;
  timeout_ms?: number;
  origin: 'file' | 'database';
  status?: { state: 'ok' | 'unusable'; functions: number | null };
  [member: string]: unknown;
}
export interface ToolFunction {
  name: string;
  description: string;
  parameters: { properties?: Record<string, { type?: string; description?: string }>; required?: string[] };
  method?: string;
  url?: string;
}
export interface ToolAnswer {
  ok: boolean;
  run?: string;
  text?: string;
  json?: unknown;
  status_code?: number;
  error?: { code: string; message: string } | null;
}
export interface Preset {
  name: string;
  title: string;
  summary: string;
  icon: string;
  type: string;
  config: { definition?: Record<string, unknown> } & Record<string, unknown>;
  service?: string;
  available: boolean;
}

export const kinds: { value: ToolKind; label: string; text: string }[] = [
  { value: 'http', label: 'Web service', text: 'One request, described here' },
  { value: 'openapi', label: 'OpenAPI', text: 'A service with a document' },
  { value: 'mcp', label: 'MCP server', text: 'Functions that a server lists' },
  { value: 'pipeline', label: 'Pipeline', text: 'One of this project' },
  { value: 'retrieval', label: 'Collections', text: 'Searches documents' },
];
export const kind_label = (kind: string) => kinds.find((one) => one.value === kind)?.label ?? kind;

// "Name: value" lines of headers and of fixed arguments; a value that is no text is JSON.
export const lines_of = (map: unknown) =>
  Object.entries((map ?? {}) as Record<string, unknown>)
    .map(([name, value]) => `${name}: ${typeof value === 'string' && !reads_as_json(value) ? value : JSON.stringify(value)}`)
    .join('\n');
function reads_as_json(text: string) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
export const value_of = (text: string): unknown => (reads_as_json(text) ? JSON.parse(text) : text);
export function map_of(text: string, json = false): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const line of text.split('\n')) {
    const at = line.indexOf(':');
    const value = line.slice(at + 1).trim();
    if (at > 0) out[line.slice(0, at).trim()] = json ? value_of(value) : value;
  }
  return out;
}

// A function's arguments from the texts of its form: empty ones are left out.
export function arguments_of(of: ToolFunction | undefined, texts: Record<string, string>) {
  const out: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(of?.parameters.properties ?? {})) {
    const text = texts[name] ?? '';
    if (text !== '') out[name] = schema.type === 'string' ? text : value_of(text);
  }
  return out;
}
