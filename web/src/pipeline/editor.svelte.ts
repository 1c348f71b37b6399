// The state of the canvas: the definition, its history, what is selected, what the server says about it. Every change
// goes through `change`, which keeps the one before for undo and saves the draft a moment later.
import { api, seg, type ApiError } from '../api';
import { as_error } from '../lib/resource.svelte';
import { free_id, initial, layout, placed, type Definition, type NodeType, type Pipeline, type PipelineNode, type Problem, type Types } from './definition';

const HISTORY_MAX = 200;
const SAVE_MS = 600;

export interface NodeRun {
  status: 'running' | 'succeeded' | 'failed' | 'skipped';
  duration_ms?: number;
  tokens?: number;
  output?: unknown;
  error?: string;
  times: number; // in an iteration or loop it runs several
}

export class Editor {
  definition = $state.raw<Definition>({ schema: 1, nodes: [], edges: [] });
  problems = $state.raw<Problem[]>([]);
  publishable = $state(false);
  selected = $state.raw<string[]>([]);
  saving = $state<'saved' | 'waiting' | 'saving' | 'failed'>('saved');
  save_error = $state.raw<ApiError | null>(null);
  runs = $state.raw<Record<string, NodeRun>>({});
  read_only = $state(false);
  presets = $state.raw<NodeType[]>([]); // what the palette offers prefilled
  #past = $state.raw<Definition[]>([]);
  #future = $state.raw<Definition[]>([]);
  #timer = 0;
  #revision = 0;
  #saving_now: Promise<void> | null = null;

  constructor(
    readonly name: string,
    readonly types: Types,
    pipeline: Pipeline,
  ) {
    this.definition = placed(pipeline.definition);
    this.#take(pipeline);
  }

  #take(answer: Pick<Pipeline, 'problems' | 'publishable' | 'revision'>) {
    this.problems = answer.problems;
    this.publishable = answer.publishable;
    this.#revision = answer.revision;
  }
  get revision() {
    return this.#revision;
  }
  get can_undo() {
    return this.#past.length > 0;
  }
  get can_redo() {
    return this.#future.length > 0;
  }
  type(node: PipelineNode): NodeType | undefined {
    return this.types.get(node.type);
  }
  #by_id = $derived(new Map(this.definition.nodes.map((node) => [node.id, node])));
  node(id: string | undefined) {
    return this.#by_id.get(id ?? '');
  }
  problems_of(id: string) {
    return this.problems.filter((problem) => problem.node === id);
  }

  // ---- changing ----

  change(next: Definition, options: { merge?: boolean } = {}) {
    if (this.read_only) return;
    if (!options.merge || !this.#past.length) this.#past = [...this.#past, this.definition].slice(-HISTORY_MAX);
    this.#future = [];
    this.#set(next);
  }
  undo() {
    const before = this.#past.at(-1);
    if (!before) return;
    this.#past = this.#past.slice(0, -1);
    this.#future = [...this.#future, this.definition];
    this.#set(before);
  }
  redo() {
    const next = this.#future.at(-1);
    if (!next) return;
    this.#future = this.#future.slice(0, -1);
    this.#past = [...this.#past, this.definition];
    this.#set(next);
  }
  #set(next: Definition) {
    this.definition = next;
    this.selected = this.selected.filter((id) => next.nodes.some((node) => node.id === id));
    this.saving = 'waiting';
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.save(), SAVE_MS);
  }

  #last_touched = '';
  #touched_at = 0;
  // Typing in one field is one step of the history.
  patch(id: string, patch: Partial<PipelineNode>) {
    const key = `${id}:${Object.keys(patch).join()}`;
    const merge = key === this.#last_touched && performance.now() - this.#touched_at < 1500;
    this.#last_touched = key;
    this.#touched_at = performance.now();
    this.change({ ...this.definition, nodes: this.definition.nodes.map((node) => (node.id === id ? { ...node, ...patch } : node)) }, { merge });
  }
  move(moves: Map<string, { x: number; y: number }>) {
    this.change({
      ...this.definition,
      nodes: this.definition.nodes.map((node) => (moves.has(node.id) ? { ...node, position: moves.get(node.id)! } : node)),
    });
  }
  add(type: NodeType, position: { x: number; y: number }, options: { parent?: string; after?: { from: string; port: string } } = {}) {
    const id = free_id(this.definition, type.type);
    const node: PipelineNode = {
      id,
      type: type.type,
      title: type.title,
      position: { x: Math.round(position.x), y: Math.round(position.y) },
      config: type.preset ? structuredClone(type.preset) : this.#first_config(type),
      ...(options.parent && { parent: options.parent }),
    };
    const edges = options.after ? [...this.definition.edges, { from: options.after.from, ...(options.after.port !== 'out' && { port: options.after.port }), to: id }] : this.definition.edges;
    this.change({ ...this.definition, nodes: [...this.definition.nodes, node], edges });
    this.selected = [id];
    return id;
  }
  #first_config(type: NodeType) {
    const config = initial(type.config) as Record<string, unknown>;
    const first = this.definition.nodes.some((node) => node.id === 'start') ? '{{ sys.query }}' : '';
    if (type.type === 'llm') config.messages = [{ role: 'user', content: first }];
    if (type.type === 'if_else') config.cases = [{ id: 'yes', name: 'Yes', when: '' }];
    if (type.type === 'classifier') config.classes = [{ id: 'a', name: 'First' }, { id: 'b', name: 'Second' }];
    if (type.type === 'human') config.actions = [{ id: 'approve', name: 'Approve' }, { id: 'reject', name: 'Reject' }];
    return config;
  }
  remove(ids: string[]) {
    const gone = new Set(ids);
    for (let grew = true; grew; ) {
      grew = false;
      for (const node of this.definition.nodes) if (node.parent && gone.has(node.parent) && !gone.has(node.id)) grew = !!gone.add(node.id);
    }
    this.change({
      ...this.definition,
      nodes: this.definition.nodes.filter((node) => !gone.has(node.id)),
      edges: this.definition.edges.filter((edge) => !gone.has(edge.from) && !gone.has(edge.to)),
    });
  }
  connect(from: string, port: string, to: string) {
    const same = this.definition.edges.some((edge) => edge.from === from && (edge.port ?? 'out') === port && edge.to === to);
    if (same || !this.may_connect(from, to)) return;
    this.change({ ...this.definition, edges: [...this.definition.edges, { from, ...(port !== 'out' && { port }), to }] });
  }
  disconnect(keys: Set<string>) {
    this.change({ ...this.definition, edges: this.definition.edges.filter((edge) => !keys.has(edge_key(edge))) });
  }
  // On one level, not into the start, and never back to where it came from.
  may_connect(from: string, to: string): boolean {
    const a = this.node(from);
    const b = this.node(to);
    if (!a || !b || from === to || b.type === 'start' || (a.parent ?? '') !== (b.parent ?? '')) return false;
    const waiting = [to];
    const seen = new Set<string>();
    while (waiting.length) {
      const at = waiting.pop()!;
      if (at === from) return false;
      if (seen.has(at)) continue;
      seen.add(at);
      for (const edge of this.definition.edges) if (edge.from === at) waiting.push(edge.to);
    }
    return true;
  }
  // What names a node follows when it is renamed: edges, parents, templates and expressions.
  rename(id: string, next: string): string | null {
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(next)) return 'Letters, digits and underscores; no digit first.';
    if (next === id) return null;
    if (['sys', 'env', 'conversation'].includes(next) || this.node(next)) return `${next} is taken.`;
    const word = new RegExp(`(?<![\\w.])${id}(?=\\.)`, 'g');
    const follow = (value: unknown): unknown =>
      typeof value === 'string' ? value.replace(word, next) : Array.isArray(value) ? value.map(follow) : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, follow(one)])) : value;
    this.change({
      ...this.definition,
      nodes: this.definition.nodes.map((node) => ({
        ...node,
        id: node.id === id ? next : node.id,
        ...(node.parent && { parent: node.parent === id ? next : node.parent }),
        config: follow(node.config) as Record<string, unknown>,
      })),
      edges: this.definition.edges.map((edge) => ({ ...edge, from: edge.from === id ? next : edge.from, to: edge.to === id ? next : edge.to })),
    });
    this.selected = [next];
    return null;
  }
  arrange() {
    this.move(layout(this.definition));
  }

  // ---- the clipboard: nodes and the edges between them, as text ----

  copy(): string {
    const ids = new Set(this.selected);
    const nodes = this.definition.nodes.filter((node) => ids.has(node.id) && node.type !== 'start');
    const edges = this.definition.edges.filter((edge) => ids.has(edge.from) && ids.has(edge.to));
    return JSON.stringify({ capstan: 'nodes', nodes, edges }, null, 2);
  }
  paste(text: string): boolean {
    let found: { capstan?: string; nodes?: PipelineNode[]; edges?: Definition['edges'] };
    try {
      found = JSON.parse(text);
    } catch {
      return false;
    }
    if (found.capstan !== 'nodes' || !Array.isArray(found.nodes)) return false;
    let next = this.definition;
    const names = new Map<string, string>();
    for (const node of found.nodes) {
      const id = free_id(next, node.id);
      names.set(node.id, id);
      next = { ...next, nodes: [...next.nodes, { ...node, id, position: { x: node.position.x + 40, y: node.position.y + 40 } }] };
    }
    const added = new Set(names.values());
    next = {
      ...next,
      nodes: next.nodes.map((node) => (added.has(node.id) && node.parent ? { ...node, parent: names.get(node.parent) ?? node.parent } : node)),
      edges: [...next.edges, ...(found.edges ?? []).filter((edge) => names.has(edge.from) && names.has(edge.to)).map((edge) => ({ ...edge, from: names.get(edge.from)!, to: names.get(edge.to)! }))],
    };
    this.change(next);
    this.selected = [...added];
    return true;
  }

  // ---- saving ----

  async save(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#saving_now) await this.#saving_now;
    if (this.saving === 'saved') return;
    const sent = this.definition;
    this.saving = 'saving';
    this.#saving_now = (async () => {
      try {
        const answer = await api.put<Pick<Pipeline, 'problems' | 'publishable' | 'revision'>>(`/api/pipelines/${seg(this.name)}/draft`, { definition: sent, revision: this.#revision });
        this.#take(answer);
        this.save_error = null;
        this.saving = this.definition === sent ? 'saved' : 'waiting';
      } catch (cause) {
        this.save_error = as_error(cause);
        this.saving = 'failed';
      }
    })();
    await this.#saving_now;
    this.#saving_now = null;
  }
}

export const edge_key = (edge: { from: string; port?: string; to: string }) => `${edge.from}:${edge.port ?? 'out'}:${edge.to}`;
