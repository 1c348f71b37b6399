// Collections, documents and chunks as the API shows them, and the upload of files.
import { csrf_token, read_error, seg, type Job } from '../api';

export type DocumentState = 'queued' | 'parsing' | 'chunking' | 'embedding' | 'ready' | 'no_text' | 'failed' | 'cancelled';

export interface Chunking {
  strategy: 'structure' | 'sentence_window' | 'parent_child' | 'static';
  tokens_max: number;
  overlap_tokens: number;
  window_sentences: number;
  parent_tokens: number;
}

export interface Ranking {
  mode: 'hybrid' | 'vector' | 'text';
  k: number;
  recall: number;
  fusion: 'rrf' | 'weighted';
  text_weight: number | null;
}

export interface Scans {
  by: 'tesseract' | 'vision' | 'docling' | 'tika' | 'none';
  route: string | null;
  address: string | null;
  pages_max: number;
  timeout_s: number;
}

export interface Collection {
  id: string;
  name: string;
  description: string;
  definition: { answer?: { route?: string; k?: number; instructions?: string }; [name: string]: unknown };
  encoder: string;
  encoder_missing: boolean;
  encoder_job: Job | null;
  chunking: Chunking;
  ranking: Ranking;
  scans: Scans;
  language: string;
  documents: Record<DocumentState | 'total', number>;
  chunks: number;
  tokens: number;
  bytes: number;
  model: string;
  vector_store: string;
  stale: boolean;
  origin: 'file' | 'database';
  updated_at: string;
}

export interface Doc {
  id: string;
  name: string;
  source: string;
  state: DocumentState;
  error: string | null;
  error_code: string | null;
  format: string | null;
  bytes: number;
  chunks: number;
  tokens: number;
  pages: number;
  text_bytes: number;
  attributes: Record<string, unknown> | null;
  tags: string[] | null;
  created_at: string;
  updated_at: string;
  duplicate?: boolean;
}

export type Rect = [page: number, x0: number, y0: number, x1: number, y1: number];

export interface Chunk {
  id: string;
  text: string;
  title: string;
  disabled: boolean;
  document_id: string | null;
  document: string | null;
  ordinal: number | null;
  page: number | null;
  begin: number | null;
  end: number | null;
  rects: Rect[] | null;
  edited: boolean | null;
  attributes: Record<string, unknown>;
}

export interface Hit extends Chunk {
  score: number;
  vector_score: number | null;
  text_score: number | null;
  rerank_score: number | null;
}

export interface Found {
  items: Hit[];
  words_only?: boolean;
  timings_ms: { encode: number; search: number; rerank: number };
}

export type SourceKind = 'urls' | 'sitemap' | 'crawl' | 'directory' | 'git' | 's3';

export interface Source {
  id: string;
  name: string;
  kind: SourceKind;
  definition: { url?: string; urls?: string[]; path?: string; bucket?: string; prefix?: string; [name: string]: unknown };
  state: 'idle' | 'queued' | 'syncing' | 'removing';
  job: Job | null;
  last_sync: {
    number: number;
    started_at: string | null;
    finished_at: string | null;
    added: number;
    changed: number;
    unchanged: number;
    deleted: number;
    failed: number;
    error: string | null;
  };
  every_ms: number | null;
  next_sync_at: string | null;
}

export interface SourceItem {
  key: string;
  state: 'ok' | 'again' | 'failed';
  document_id: string | null;
  error: string | null;
  bytes: number;
}

export interface Added {
  items: Doc[];
  job: Job | null;
}

export const path_of = (name: string, rest = '') => `/api/collections/${seg(name)}${rest}`;

export const is_working = (state: DocumentState) => state === 'queued' || state === 'parsing' || state === 'chunking' || state === 'embedding';

// One file a request, so that each has its own progress and its own error.
export async function upload(collection: string, file: File, name: string): Promise<Added> {
  const form = new FormData();
  form.append('name', name);
  form.append('file', file, file.name);
  const response = await fetch(path_of(collection, '/documents'), {
    method: 'POST',
    body: form,
    headers: { accept: 'application/json', 'x-csrf-token': csrf_token() ?? '' },
  });
  if (!response.ok) throw await read_error(response);
  return response.json();
}

// Files of a drop, folders opened to their depth, with their paths as names.
export async function dropped_files(items: DataTransferItemList): Promise<{ file: File; name: string }[]> {
  const found: { file: File; name: string }[] = [];
  async function walk(entry: FileSystemEntry, prefix: string, depth: number): Promise<void> {
    if (found.length >= FILES_MAX || depth > DEPTH_MAX || entry.name.startsWith('.')) return;
    if (entry.isFile) {
      const file = await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail));
      found.push({ file, name: prefix + entry.name });
      return;
    }
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
      if (!some.length) return;
      for (const one of some) await walk(one, `${prefix}${entry.name}/`, depth + 1);
    }
  }
  // Both are asked for before anything is waited for: the list is emptied when the event has been handled.
  const given = [...items].filter((item) => item.kind === 'file').map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
  for (const { entry, file } of given) {
    if (entry) await walk(entry, '', 0);
    else if (file) found.push({ file, name: file.name });
  }
  return found;
}
const FILES_MAX = 5000;
const DEPTH_MAX = 16;
