// The router: the address is the only state. `here` holds it as runes; go() and set_query() change it.
// Links are plain <a href>: one listener turns same-origin clicks into go(), so that ⌘-click and copying work.

interface Here {
  path: string;
  query: URLSearchParams;
  hash: string;
}

function read(): Here {
  return { path: location.pathname, query: new URLSearchParams(location.search), hash: location.hash.slice(1) };
}

let state = $state.raw<Here>(read());
let leave_guard: (() => boolean) | null = null;

export const here = {
  get path() {
    return state.path;
  },
  get query() {
    return state.query;
  },
  get hash() {
    return state.hash;
  },
  get href() {
    const query = state.query.toString();
    return state.path + (query ? `?${query}` : '');
  },
};

// A form with unsaved input asks before it is left; the guard answers whether leaving is fine.
export function guard_leaving(guard: () => boolean) {
  leave_guard = guard;
  return () => {
    if (leave_guard === guard) leave_guard = null;
  };
}

export function go(href: string, options: { replace?: boolean } = {}) {
  const url = new URL(href, location.href);
  if (url.pathname !== state.path && leave_guard && !leave_guard()) return;
  if (url.pathname !== state.path) leave_guard = null;
  if (options.replace || url.href === location.href) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
  const moved = url.pathname !== state.path;
  state = read();
  if (moved) document.querySelector('main')?.scrollTo(0, 0);
}

// A token in the fragment is used once: it leaves the address bar and the history.
export function drop_fragment() {
  history.replaceState(null, '', location.pathname + location.search);
  state = read();
}

// Changes some parameters of the query and leaves the others; null removes one.
export function set_query(
  patch: Record<string, string | number | null | undefined>,
  options: { push?: boolean } = {},
) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null || value === undefined || value === '') query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  go(location.pathname + (text ? `?${text}` : ''), { replace: !options.push });
}

export function start_router() {
  addEventListener('popstate', () => (state = read()));
  addEventListener('hashchange', () => (state = read()));
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
      return;
    const link = (event.target as Element).closest?.('a');
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (/^\/(api|v1|metrics|docs)(\/|$)/.test(link.pathname)) return;
    event.preventDefault();
    go(link.href);
  });
}

// '/calls/:id' against '/calls/call_1' is { id: 'call_1' }; null where it does not match.
export function match(pattern: string, path: string): Record<string, string> | null {
  const want = pattern.split('/');
  const have = path.replace(/\/+$/, '').split('/');
  if (want.length !== have.length && !(pattern === '/' && path === '/')) return null;
  const found: Record<string, string> = {};
  for (let i = 0; i < want.length; i++) {
    if (want[i].startsWith(':')) {
      if (!have[i]) return null;
      try {
        found[want[i].slice(1)] = decodeURIComponent(have[i]);
      } catch {
        return null;
      }
    } else if (want[i] !== (have[i] ?? '')) return null;
  }
  return found;
}
