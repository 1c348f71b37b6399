// Who is signed in, and what that principal may do.
import { ApiError, api, on_unauthorised, set_csrf, type Session } from '../api';
import { forget_all } from './resource.svelte';

type State = 'loading' | 'signed_out' | 'signed_in' | 'unreachable';

let state = $state<State>('loading');
let current = $state.raw<Session | null>(null);
let expired = $state(false);

export const session = {
  get state() {
    return state;
  },
  get expired() {
    return expired;
  },
  // Only screens behind the sign-in read this, so it is there.
  get now(): Session {
    return current!;
  },
};

export function can(permission: string) {
  return current?.permissions.includes(permission) ?? false;
}

export async function load_session() {
  try {
    current = await api.session();
    set_csrf(current.csrf);
    expired = false;
    state = 'signed_in';
  } catch (cause) {
    if (cause instanceof ApiError && cause.status === 401) state = 'signed_out';
    else if (!current) state = 'unreachable';
  }
}

export async function sign_in(body: Record<string, string>) {
  await api.sign_in(body);
  forget_all();
  await load_session();
}

export async function accept_invite(body: Record<string, string>) {
  await api.post('/api/invites/accept', body, { quiet: true });
  forget_all();
  await load_session();
}

export async function sign_out() {
  await api.delete('/api/session').catch(() => {});
  current = null;
  set_csrf('');
  forget_all();
  expired = false;
  state = 'signed_out';
}

export async function switch_project(id: string) {
  await api.post('/api/session/project', { project: id });
  location.assign('/');
}

// A 401 in the middle of work: keep the address, ask to sign in again, and go on where one was.
on_unauthorised(() => {
  if (state !== 'signed_in') return;
  expired = true;
  state = 'signed_out';
});
