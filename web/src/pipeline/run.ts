// A run as the API shows it, and its events as they come.
import { api, csrf_token, read_error, seg, ApiError } from '../api';
import { read_events } from '../lib/sse';
import type { NodeRun } from './editor.svelte';

export type RunStatus = 'queued' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'cancelled';

export interface RunStep {
  node: string;
  path: string; // "each#2/sum": inside an iteration or loop
  type?: string;
  status: 'idle' | 'ready' | 'running' | 'done' | 'failed' | 'skipped';
  started_ms?: number; // since the run began
  duration_ms?: number;
  attempts?: number;
  span_id?: string; // of the run's trace: the node's calls are its children
  outputs?: Record<string, unknown>;
}
export interface Run {
  id: string;
  pipeline: string;
  origin?: string; // the run that this one repeats
  version: number | null; // null: the draft
  status: RunStatus;
  trigger?: string;
  inputs?: unknown;
  outputs?: Record<string, unknown> | null;
  text?: string | null;
  error?: { code: string; message: string; node?: string } | null;
  session?: string | null;
  user?: string | null;
  started_at?: string;
  ended_at?: string | null;
  duration_ms?: number | null;
  usage?: { input_tokens: number; output_tokens: number; cost_usd: string; steps: number };
  trace_id?: string;
  nodes?: RunStep[];
}

const shown_status: Record<RunStep['status'], NodeRun['status'] | null> = { idle: null, ready: 'running', running: 'running', done: 'succeeded', failed: 'failed', skipped: 'skipped' };
export const status_of = (step: RunStep) => shown_status[step.status];

// What the canvas shows of a step; in an iteration a node has several, of which the last counts.
export function node_run(step: RunStep, before: NodeRun | undefined, error?: string): NodeRun {
  const usage = step.outputs?.usage as { prompt_tokens?: number; completion_tokens?: number; input_tokens?: number; output_tokens?: number } | undefined;
  const tokens = (usage?.input_tokens ?? usage?.prompt_tokens ?? 0) + (usage?.output_tokens ?? usage?.completion_tokens ?? 0);
  return {
    status: status_of(step) ?? 'skipped',
    duration_ms: step.duration_ms,
    tokens: tokens || undefined,
    output: step.outputs,
    error: step.status === 'failed' ? (error ?? (step.outputs?.error_message as string | undefined)) : undefined,
    times: (before?.times ?? 0) + (step.status === 'running' || step.status === 'ready' ? 0 : 1),
  };
}
export function runs_of(run: Run): Record<string, NodeRun> {
  const out: Record<string, NodeRun> = {};
  for (const step of run.nodes ?? []) if (status_of(step)) out[step.node] = node_run(step, out[step.node], run.error?.node === step.node ? run.error.message : undefined);
  return out;
}

export interface RunEvent {
  event: string;
  data: Record<string, any>;
}
export async function* start_run(pipeline: string, body: unknown, signal: AbortSignal): AsyncGenerator<RunEvent> {
  const response = await fetch(`/api/pipelines/${seg(pipeline)}/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream', 'x-csrf-token': csrf_token() },
    body: JSON.stringify(body),
    signal,
  }).catch((cause) => {
    if (signal.aborted) throw cause;
    throw new ApiError(0, 'unreachable', 'The server cannot be reached. Check that it runs, then try again.');
  });
  if (!response.ok) throw await read_error(response);
  yield* events_of(response);
}
export async function* watch_run(id: string, signal: AbortSignal): AsyncGenerator<RunEvent> {
  const response = await fetch(`/api/runs/${seg(id)}/events`, { headers: { accept: 'text/event-stream' }, signal });
  if (!response.ok) throw await read_error(response);
  yield* events_of(response);
}
async function* events_of(response: Response): AsyncGenerator<RunEvent> {
  for await (const { event, data } of read_events(response.body!)) yield { event, data: JSON.parse(data) };
}
// Doing it again: each answers with the new run.
export const retry_run = (id: string) => api.post<Run>(`/api/runs/${seg(id)}/retry`, { mode: 'async' });
export const fork_run = (id: string, body: { from: string; values?: Record<string, unknown> }) => api.post<Run>(`/api/runs/${seg(id)}/fork`, { ...body, mode: 'async' });
export const run_node = (pipeline: string, node: string, values: Record<string, unknown>) => api.post<Run>(`/api/pipelines/${seg(pipeline)}/nodes/${seg(node)}/run`, { values });
export const cancel_run = (id: string) => api.post(`/api/runs/${seg(id)}/cancel`);
