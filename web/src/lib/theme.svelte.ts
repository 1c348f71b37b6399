// Light, dark, or as the system says. The choice is this browser's, so it lives in its storage, not in the address.
export type Theme = 'system' | 'light' | 'dark';

const KEY = 'capstan.theme';
const dark_system = matchMedia('(prefers-color-scheme: dark)');

let chosen = $state<Theme>((document.documentElement.dataset.theme as Theme) ?? 'system');
let system_dark = $state(dark_system.matches);
dark_system.addEventListener('change', (event) => (system_dark = event.matches));

export const theme = {
  get chosen() {
    return chosen;
  },
  get dark() {
    return chosen === 'system' ? system_dark : chosen === 'dark';
  },
};

export function set_theme(next: Theme) {
  chosen = next;
  if (next === 'system') {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(KEY);
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem(KEY, next);
  }
}
