// One EventSource for the whole console. An event is a hint that something changed; the lists stay the truth:
// a subscriber asks the server again, with its own filters. A hidden tab holds no connection.

type Kind = 'call' | 'job' | 'model' | 'config' | 'document' | 'run';
type Handler = (data: unknown) => void;

const KINDS: Kind[] = ['call', 'job', 'model', 'config', 'document', 'run'];
const handlers = new Map<Kind, Set<Handler>>(KINDS.map((kind) => [kind, new Set()]));
const RETRY_MS_MAX = 15_000;

let source: EventSource | null = null;
let retry_ms = 1000;
let timer = 0;
let state = $state<'off' | 'opening' | 'live' | 'waiting'>('off');

export const events = {
  get state() {
    return state;
  },
};

function listeners() {
  let n = 0;
  for (const set of handlers.values()) n += set.size;
  return n;
}

function deliver(kind: Kind, data: unknown) {
  for (const handler of handlers.get(kind)!) handler(data);
}

function open() {
  if (source || document.hidden || !listeners()) return;
  state = 'opening';
  const mine = (source = new EventSource(`/api/events?types=${KINDS.join(',')}`));
  let lost = false;
  mine.onopen = () => {
    state = 'live';
    retry_ms = 1000;
    // What happened while nobody listened is unknown: everybody looks again.
    if (lost || resync) for (const kind of KINDS) deliver(kind, null);
    resync = false;
    lost = false;
  };
  mine.onerror = () => {
    state = 'waiting';
    lost = true;
    if (mine.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    close();
    state = 'waiting';
    resync = true;
    timer = window.setTimeout(open, retry_ms);
    retry_ms = Math.min(retry_ms * 2, RETRY_MS_MAX);
  };
  // The window of the server was too short for what this connection missed.
  mine.addEventListener('missed', () => {
    for (const kind of KINDS) deliver(kind, null);
  });
  for (const kind of KINDS) {
    mine.addEventListener(kind, (event) => {
      let data: unknown = null;
      try {
        data = JSON.parse((event as MessageEvent).data);
      } catch {
        // a hint without content is still a hint
      }
      deliver(kind, data);
    });
  }
}
let resync = false;

function close() {
  clearTimeout(timer);
  source?.close();
  source = null;
  state = 'off';
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    if (source) resync = true;
    close();
  } else open();
});

export function subscribe(kind: Kind, handler: Handler): () => void {
  handlers.get(kind)!.add(handler);
  open();
  return () => {
    handlers.get(kind)!.delete(handler);
    // The next screen usually listens too: give it a moment before the connection goes.
    setTimeout(() => {
      if (!listeners()) close();
    }, 2000);
  };
}

// The handler runs at once, then at most every `ms`, and once more after the last event.
export function throttle(ms: number, run: () => void) {
  let last = 0;
  let waiting = 0;
  const fire = () => {
    last = performance.now();
    waiting = 0;
    run();
  };
  const ask = () => {
    if (waiting) return;
    const rest = last + ms - performance.now();
    if (rest <= 0) fire();
    else waiting = window.setTimeout(fire, rest);
  };
  ask.cancel = () => clearTimeout(waiting);
  return ask;
}

// For a component: refresh on events of a kind, throttled, until it goes.
export function live(kind: Kind, ms: number, run: () => void) {
  $effect(() => {
    const ask = throttle(ms, run);
    const stop = subscribe(kind, ask);
    return () => {
      stop();
      ask.cancel();
    };
  });
}
