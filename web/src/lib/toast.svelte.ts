// Short notices at the edge of the screen. An error stays until it is closed; the rest goes by itself.
import { as_error } from './resource.svelte';

export interface Toast {
  id: number;
  tone: 'ok' | 'bad' | 'info';
  text: string;
  detail?: string;
  href?: string;
}

const SHOWN_MS = 4000;
const SHOWN_MAX = 4;
let list = $state<Toast[]>([]);
let next = 1;

export const toasts = {
  get list() {
    return list;
  },
};

export function dismiss(id: number) {
  list = list.filter((toast) => toast.id !== id);
}

function show(toast: Omit<Toast, 'id'>) {
  const id = next++;
  list = [...list, { ...toast, id }].slice(-SHOWN_MAX);
  if (toast.tone !== 'bad') setTimeout(() => dismiss(id), SHOWN_MS);
}

export const say = (text: string, detail?: string, href?: string) => show({ tone: 'ok', text, detail, href });

export function complain(text: string, cause: unknown) {
  const error = as_error(cause);
  if (error.status === 401) return; // the sign-in says it
  show({ tone: 'bad', text, detail: error.message + (error.request_id ? ` (request ${error.request_id})` : '') });
}
