// Prompts as /api/prompts has them.
export interface PromptMessage {
  role?: string;
  content?: unknown;
  type?: string;
  name?: string;
}
export interface PromptLabel {
  name: string;
  targets: { version: number; weight: number }[];
}
export interface Prompt {
  name: string;
  type: 'text' | 'chat';
  prompt: string | PromptMessage[];
  syntax?: 'mustache' | 'jinja2';
  config?: Record<string, unknown>;
  output_schema?: Record<string, unknown>;
  tools?: unknown[];
  variables?: { name: string; description?: string; default?: unknown }[];
  description?: string;
  folder?: string;
  tags?: string[];
  version: number;
  author?: string | null;
  message?: string | null;
  updated_at?: string;
  model?: string | null;
  labels: PromptLabel[];
  reads?: string[];
  placeholders?: string[];
  problem?: string;
  origin?: string;
}
export interface PromptVersion {
  version: number;
  author: string | null;
  message: string | null;
  created_at: string;
  labels: string[];
}
export interface PromptDiff {
  from: number;
  to: number;
  words: { op: 'equal' | 'insert' | 'delete'; text: string }[];
  fields: { path: string; before: unknown; after: unknown }[];
}
export const prompt_path = (name: string, rest = '') => `/api/prompts/${encodeURIComponent(name)}${rest}`;
