// Templates of the gallery and files of others: what POST /api/pipelines/import takes and tells.
import { api, type TargetName } from '../api';
import { forget } from '../lib/resource.svelte';
import type { Definition, Problem } from './definition';

export interface Template {
  name: string;
  title: string;
  summary: string;
  tags: string[];
  model: 'any' | 'strong';
  samples: { name: string; inputs: Record<string, unknown> }[];
  models: string[];
  collections: string[];
  definition: Definition;
}
export interface Import {
  name: string;
  format: 'capstan' | 'dify';
  definition: Definition;
  nodes: { id: string; title: string; from: string; to: string | null }[];
  notes: Problem[];
  models: string[];
  collections: string[];
  publishable: boolean;
  problems: Problem[];
}
export interface ImportRequest {
  text?: string;
  gallery?: string;
  name?: string;
  dry_run?: boolean;
  replace?: boolean;
  models?: Record<string, string>;
  collections?: Record<string, string>;
}

export async function import_pipeline(request: ImportRequest): Promise<Import> {
  const made = await api.post<Import>('/api/pipelines/import', request);
  if (!request.dry_run) forget('/api/pipelines');
  return made;
}

// What a name there is most likely here: the same, else a route, else whatever can be called.
export function guess_model(name: string, targets: TargetName[]): string {
  const callable = targets.filter((one) => !/^(pipeline|prompt)\//.test(one.name));
  const same = callable.find((one) => one.name === name || one.name === `${name}`.split('/').at(-1));
  return (same ?? callable.find((one) => one.kind === 'route') ?? callable[0])?.name ?? name;
}
export const guess_name = (name: string, names: string[]) => (names.includes(name) ? name : names[0]) ?? name;

// "ask", "ask-2", …
export function free_name(wanted: string, taken: string[]): string {
  const stem = wanted.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^-+|-+$/g, '') || 'pipeline';
  if (!taken.includes(stem)) return stem;
  for (let n = 2; ; n++) if (!taken.includes(`${stem}-${n}`)) return `${stem}-${n}`;
}

// The panel "Run" of a pipeline begins with these.
export function keep_inputs(pipeline: string, inputs: Record<string, unknown>) {
  const typed = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value, null, 2)]));
  sessionStorage.setItem(`capstan.pipeline.${pipeline}`, JSON.stringify(typed));
}
