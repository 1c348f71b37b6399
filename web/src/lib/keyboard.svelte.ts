// Keyboard: the global shortcuts, and those that the screen on show adds. Typing in a field is never a shortcut,
// except for those with ⌘ or Ctrl.

import { untrack } from 'svelte';

export interface Shortcut {
  keys: string; // 'j', '/', 'mod+k', 'g c', 'Escape'
  label: string;
  group?: string;
  run: (event: KeyboardEvent) => void;
}

let active = $state.raw<Shortcut[]>([]);
let prefix = '';
let prefix_timer = 0;
const PREFIX_MS = 1200;

export const shortcuts = {
  get list() {
    return active;
  },
};

export const is_mac = /Mac|iPhone|iPad/.test(navigator.platform);
export const mod_key = is_mac ? '⌘' : 'Ctrl';

// While the component lives. The newest wins where two have the same keys.
export function keyboard(list: Shortcut[]) {
  keyboard_while(
    () => true,
    () => list,
  );
}
export function keyboard_while(when: () => boolean, make: () => Shortcut[]) {
  $effect(() => {
    if (!when()) return;
    const list = make();
    untrack(() => (active = [...list, ...active]));
    return () => {
      active = untrack(() => active).filter((one) => !list.includes(one));
    };
  });
}

function typing(target: EventTarget | null) {
  const element = target as HTMLElement | null;
  return !!element?.closest?.('input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]');
}

export function start_keyboard() {
  addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const mod = event.metaKey || event.ctrlKey;
    if (event.altKey) return;
    if (!mod && typing(event.target)) return;
    // A dialog has the keyboard to itself.
    if (!mod && document.querySelector('dialog[open]')) return;
    const key = mod ? `mod+${event.key.toLowerCase()}` : event.key;
    const wanted = prefix ? `${prefix} ${key}` : key;
    const found = active.find((one) => one.keys === wanted) ?? active.find((one) => one.keys === key);
    clearTimeout(prefix_timer);
    prefix = '';
    if (found) {
      event.preventDefault();
      found.run(event);
    } else if (active.some((one) => one.keys.startsWith(`${key} `))) {
      prefix = key;
      prefix_timer = window.setTimeout(() => (prefix = ''), PREFIX_MS);
    }
  });
}
