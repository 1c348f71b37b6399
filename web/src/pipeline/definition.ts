// A pipeline's definition as the canvas edits it, and what can be computed from it alone. The server's
// docs/design/pipeline.md describes the format; the node catalogue comes from GET /api/pipelines/nodes.

export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  enum?: (string | number)[];
  default?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  'x-widget'?: string;
}
export interface Port {
  name: string;
  title?: string;
}
export interface Output {
  name: string;
  type: string;
  description?: string;
}
export interface NodeType {
  type: string;
  preset?: Record<string, unknown>; // the config of one that is prefilled
  why?: string; // it cannot be used
  title: string;
  group: string;
  icon: string;
  summary: string;
  config: Schema;
  ports: Port[];
  ports_from?: { list: string; id: string; title: string };
  outputs?: Output[];
  outputs_from?: { list: string; name: string; type: string };
  inside?: Output[];
  errors?: boolean;
  container?: boolean;
  passive?: boolean;
}
export interface PipelineNode {
  id: string;
  type: string;
  title?: string;
  position: { x: number; y: number };
  parent?: string;
  config: Record<string, unknown>;
  retry?: { max?: number; interval_ms?: number };
  timeout_ms?: number;
  on_error?: 'stop' | 'default' | 'branch';
  default?: Record<string, unknown>;
}
export interface PipelineEdge {
  from: string;
  port?: string;
  to: string;
}
export interface Variable {
  name: string;
  type: string;
  value?: unknown;
}
export interface Definition {
  schema: number;
  description?: string;
  nodes: PipelineNode[];
  edges: PipelineEdge[];
  variables?: { conversation?: Variable[]; environment?: Variable[] };
  settings?: Record<string, unknown>;
}
export interface Problem {
  node: string | null;
  field: string | null;
  severity: 'error' | 'warning' | string;
  code: string;
  message: string;
}
export interface Label {
  name: string;
  targets: { version: number; weight: number }[];
}
export interface Pipeline {
  name: string;
  description?: string | null;
  nodes: number;
  version: number | null;
  draft_changed: boolean;
  revision: number;
  labels: Label[];
  updated_at: string;
  author?: string | null;
  definition: Definition;
  problems: Problem[];
  publishable: boolean;
}
export type Types = Map<string, NodeType>;

const list_of = (config: Record<string, unknown>, name: string) =>
  Array.isArray(config[name]) ? (config[name] as Record<string, unknown>[]) : [];

// Where edges may leave a node, in the order in which they are drawn.
export function ports_of(node: PipelineNode, type: NodeType | undefined): Port[] {
  if (!type || type.passive) return [];
  const from = type.ports_from;
  const listed = from
    ? list_of(node.config, from.list)
        .filter((one) => one[from.id])
        .map((one) => ({ name: String(one[from.id]), title: String(one[from.title] || one[from.id]) }))
    : [];
  const ports = [...listed, ...type.ports];
  return node.on_error === 'branch' && type.errors ? [...ports, { name: 'error', title: 'On error' }] : ports;
}

export function outputs_of(node: PipelineNode, type: NodeType | undefined): Output[] {
  if (!type) return [];
  const from = type.outputs_from;
  const listed = from
    ? list_of(node.config, from.list)
        .filter((one) => one[from.name])
        .map((one) => ({ name: String(one[from.name]), type: String(one[from.type] ?? 'any') }))
    : [];
  const failed = node.on_error === 'default' || node.on_error === 'branch';
  return [...(type.outputs ?? []), ...listed, ...(failed ? [{ name: 'error_code', type: 'string' }, { name: 'error_message', type: 'string' }] : [])];
}

export interface Known {
  path: string; // "llm.text"
  type: string;
  from: string; // a title, for people
}

const SYSTEM: Known[] = ['query:string', 'session:string', 'user:string', 'run_id:string', 'pipeline:string', 'version:number', 'messages:array', 'started_at:string'].map(
  (text) => ({ path: `sys.${text.split(':')[0]}`, type: text.split(':')[1], from: 'System' }),
);

// What a node's texts may name: outputs of what stands before it, on its level or around it.
export function variables_for(definition: Definition, types: Types, id: string): Known[] {
  const by_id = new Map(definition.nodes.map((node) => [node.id, node]));
  const known: Known[] = [];
  const seen = new Set<string>();
  const add = (node: PipelineNode) => {
    for (const output of outputs_of(node, types.get(node.type)))
      known.push({ path: `${node.id}.${output.name}`, type: output.type, from: node.title || node.id });
  };
  const into = Map.groupBy(definition.edges, (edge) => edge.to);
  let level: string | undefined = id;
  while (level) {
    const waiting: string[] = [level];
    while (waiting.length) {
      const at = waiting.pop()!;
      for (const edge of into.get(at) ?? []) {
        if (seen.has(edge.from)) continue;
        seen.add(edge.from);
        waiting.push(edge.from);
        const node = by_id.get(edge.from);
        if (node) add(node);
      }
    }
    const parent: PipelineNode | undefined = by_id.get(by_id.get(level)?.parent ?? '');
    const type = parent && types.get(parent.type);
    if (parent && type) {
      for (const output of type.inside ?? []) known.push({ path: `${parent.id}.${output.name}`, type: output.type, from: parent.title || parent.id });
      if (parent.type === 'loop') for (const one of list_of(parent.config, 'variables')) known.push({ path: `${parent.id}.${one.name}`, type: String(one.type ?? 'any'), from: parent.title || parent.id });
    }
    level = parent?.id;
  }
  // The nodes inside a container are read by its own `output`.
  for (const node of definition.nodes) if (node.parent === id) add(node);
  const conversation = (definition.variables?.conversation ?? []).map((one) => ({ path: `conversation.${one.name}`, type: one.type, from: 'Conversation' }));
  const environment = (definition.variables?.environment ?? []).map((one) => ({ path: `env.${one.name}`, type: one.type, from: 'Environment' }));
  return [...known, ...conversation, ...environment, ...SYSTEM];
}

// "llm", "llm_2", …
export function free_id(definition: Definition, base: string): string {
  const taken = new Set([...definition.nodes.map((node) => node.id), 'sys', 'env', 'conversation']);
  const stem = base.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(\d)/, '_$1').replace(/_\d+$/, '') || 'node';
  if (!taken.has(stem)) return stem;
  for (let n = 2; ; n++) if (!taken.has(`${stem}_${n}`)) return `${stem}_${n}`;
}

// A config in which everything required is there, so that its form has something to bind to.
export function initial(schema: Schema): unknown {
  if (schema.default !== undefined) return structuredClone(schema.default);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === 'object') {
    const out: Record<string, unknown> = {};
    for (const name of schema.required ?? []) if (schema.properties?.[name]) out[name] = initial(schema.properties[name]);
    return out;
  }
  if (type === 'array') {
    const min = (schema as { minItems?: number }).minItems ?? 0;
    return Array.from({ length: min }, () => initial(schema.items ?? {}));
  }
  if (schema.enum) return schema.enum[0];
  if (type === 'number' || type === 'integer') return schema.minimum ?? 0;
  if (type === 'boolean') return false;
  return '';
}


// A config's first words, shown in the node.
export function summary_of(node: PipelineNode): string {
  const config = node.config as Record<string, any>;
  const text =
    config.model ?? config.collections?.map((one: { name: string }) => one.name).join(', ') ?? config.pipeline ?? config.prompt ?? config.url ?? config.text ?? config.list ?? config.until ?? config.mode ?? config.cases?.[0]?.when ?? config.values?.[0] ??
    (config.inputs?.length ? config.inputs.map((one: { name: string }) => one.name).join(', ') : undefined) ??
    (config.outputs?.length ? config.outputs.map((one: { name: string }) => one.name).join(', ') : undefined);
  return typeof text === 'string' ? text : '';
}

const COLUMN = 300;
const ROW = 130;

// Left to right in layers by the longest way from the start; within a layer by the mean of what leads there.
// Children of a container are laid out within it. Returns the new positions.
export function layout(definition: Definition): Map<string, { x: number; y: number }> {
  const out = new Map<string, { x: number; y: number }>();
  const levels = new Map<string, PipelineNode[]>();
  for (const node of definition.nodes) {
    const key = node.parent ?? '';
    levels.set(key, [...(levels.get(key) ?? []), node]);
  }
  for (const [parent, nodes] of levels) {
    const ids = new Set(nodes.map((node) => node.id));
    const edges = definition.edges.filter((edge) => ids.has(edge.from) && ids.has(edge.to));
    const depth = new Map<string, number>(nodes.map((node) => [node.id, 0]));
    for (let round = 0; round < nodes.length; round++) {
      let moved = false;
      for (const edge of edges) {
        if (depth.get(edge.to)! < depth.get(edge.from)! + 1 && depth.get(edge.from)! < nodes.length) {
          depth.set(edge.to, depth.get(edge.from)! + 1);
          moved = true;
        }
      }
      if (!moved) break;
    }
    const layers: PipelineNode[][] = [];
    for (const node of nodes) (layers[depth.get(node.id)!] ??= []).push(node);
    const row = new Map<string, number>();
    layers.forEach((layer, x) => {
      const wanted = (node: PipelineNode) => {
        const before = edges.filter((edge) => edge.to === node.id && row.has(edge.from)).map((edge) => row.get(edge.from)!);
        return before.length ? before.reduce((sum, at) => sum + at, 0) / before.length : node.position.y / ROW;
      };
      const sorted = layer.map((node) => ({ node, at: wanted(node) })).sort((a, b) => a.at - b.at);
      const middle = sorted.reduce((sum, one) => sum + one.at, 0) / sorted.length;
      sorted.forEach(({ node }, i) => {
        const at = middle + (i - (sorted.length - 1) / 2);
        row.set(node.id, at);
        out.set(node.id, { x: (parent ? 40 : 80) + x * COLUMN, y: (parent ? 70 : 160) + at * ROW });
      });
    });
    const top = Math.min(...nodes.map((node) => out.get(node.id)!.y));
    for (const node of nodes) out.get(node.id)!.y += (parent ? 70 : 80) - top;
  }
  return out;
}

// Definitions that no canvas made (by the API, by hand) say nothing of places: all their nodes are laid out.
export function placed(definition: Definition): Definition {
  if (definition.nodes.every((node) => node.position)) return definition;
  const somewhere = { ...definition, nodes: definition.nodes.map((node) => ({ ...node, position: node.position ?? { x: 0, y: 0 } })) };
  const places = layout(somewhere);
  return { ...somewhere, nodes: somewhere.nodes.map((node) => ({ ...node, position: places.get(node.id)! })) };
}

// How large a container must be for what it holds.
export function size_of(definition: Definition, id: string): { width: number; height: number } {
  let width = 380;
  let height = 200;
  for (const node of definition.nodes) {
    if (node.parent !== id) continue;
    width = Math.max(width, node.position.x + 280);
    height = Math.max(height, node.position.y + 130);
  }
  return { width, height };
}
