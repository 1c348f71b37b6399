// The map of the console: every address, the screen that shows it, and the navigation made from it.
// A screen is loaded when it is first shown.
import type { Component } from 'svelte';
import type { IconName } from './ui/Icon.svelte';
import { can } from './lib/session.svelte';

type Screen = () => Promise<{ default: Component<any> }>;

const playground: Screen = () => import('./screens/Playground.svelte');
const route_form: Screen = () => import('./screens/RouteForm.svelte');
const provider_form: Screen = () => import('./screens/ProviderForm.svelte');
const tool_form: Screen = () => import('./screens/ToolForm.svelte');
const key_form: Screen = () => import('./screens/KeyForm.svelte');

// The first that matches, so `new` comes before `:name`.
export const screens: [pattern: string, screen: Screen][] = [
  ['/', () => import('./screens/Home.svelte')],
  ['/playground', playground],
  ['/calls', () => import('./screens/Calls.svelte')],
  ['/calls/:id', () => import('./screens/Call.svelte')],
  ['/routes', () => import('./screens/Routes.svelte')],
  ['/routes/new', route_form],
  ['/routes/:name', route_form],
  ['/providers', () => import('./screens/Providers.svelte')],
  ['/providers/new', provider_form],
  ['/providers/:name', provider_form],
  ['/pipelines', () => import('./screens/Pipelines.svelte')],
  ['/pipelines/:name', () => import('./screens/Pipeline.svelte')],
  ['/tools', () => import('./screens/Tools.svelte')],
  ['/tools/new', tool_form],
  ['/tools/:name', tool_form],
  ['/runs', () => import('./screens/Runs.svelte')],
  ['/runs/:id', () => import('./screens/Run.svelte')],
  ['/models', () => import('./screens/Models.svelte')],
  ['/prompts', () => import('./screens/Prompts.svelte')],
  ['/prompts/:name', () => import('./screens/Prompt.svelte')],
  ['/knowledge', () => import('./screens/Collections.svelte')],
  ['/knowledge/:name', () => import('./screens/Collection.svelte')],
  ['/knowledge/:name/:id', () => import('./screens/Document.svelte')],
  ['/keys', () => import('./screens/Keys.svelte')],
  ['/keys/new', key_form],
  ['/keys/:id', key_form],
  ['/spend', () => import('./screens/Spend.svelte')],
  ['/limits', () => import('./screens/Limits.svelte')],
  ['/members', () => import('./screens/Members.svelte')],
  ['/prices', () => import('./screens/Prices.svelte')],
  ['/audit', () => import('./screens/Audit.svelte')],
  ['/settings', () => import('./screens/Settings.svelte')],
  ['/server', () => import('./screens/Server.svelte')],
];

export interface Link {
  href: string;
  title: string;
  icon: IconName;
  keys: string;
}

const navigation: { title: string; links: (Link & { needs?: string })[] }[] = [
  {
    title: '',
    links: [
      { href: '/', title: 'Home', icon: 'home', keys: 'g h', needs: 'call.read' },
      { href: '/playground', title: 'Playground', icon: 'play', keys: 'g p', needs: 'call.make' },
      { href: '/calls', title: 'Calls', icon: 'calls', keys: 'g c', needs: 'call.read' },
    ],
  },
  {
    title: 'Build',
    links: [
      { href: '/prompts', title: 'Prompts', icon: 'edit', keys: 'g t', needs: 'prompt.read' },
      { href: '/pipelines', title: 'Pipelines', icon: 'flow', keys: 'g f', needs: 'pipeline.read' },
      { href: '/tools', title: 'Tools', icon: 'bolt', keys: 'g x', needs: 'pipeline.read' },
      { href: '/knowledge', title: 'Knowledge', icon: 'book', keys: 'g w', needs: 'knowledge.read' },
    ],
  },
  {
    title: 'Gateway',
    links: [
      { href: '/routes', title: 'Routes', icon: 'route', keys: 'g r', needs: 'route.read' },
      { href: '/providers', title: 'Providers', icon: 'provider', keys: 'g o', needs: 'provider.read' },
      { href: '/models', title: 'Models', icon: 'model', keys: 'g m', needs: 'model.read' },
      { href: '/prices', title: 'Prices', icon: 'price', keys: 'g $', needs: 'price.read' },
    ],
  },
  {
    title: 'Access',
    links: [
      { href: '/keys', title: 'Keys', icon: 'key', keys: 'g k', needs: 'key.read' },
      { href: '/limits', title: 'Limits', icon: 'gauge', keys: 'g l', needs: 'limit.read' },
      { href: '/spend', title: 'Spend', icon: 'spend', keys: 'g d', needs: 'call.read' },
      { href: '/members', title: 'Members', icon: 'people', keys: 'g u', needs: 'member.read' },
    ],
  },
  {
    title: 'System',
    links: [
      { href: '/audit', title: 'Audit', icon: 'audit', keys: 'g a', needs: 'audit.read' },
      { href: '/settings', title: 'Settings', icon: 'settings', keys: 'g s', needs: 'setting.read' },
      { href: '/server', title: 'Server', icon: 'server', keys: 'g v', needs: 'server.read' },
    ],
  },
];

// What the one signed in may see.
export function sections(): { title: string; links: Link[] }[] {
  return navigation
    .map(({ title, links }) => ({ title, links: links.filter((link) => !link.needs || can(link.needs)) }))
    .filter((section) => section.links.length > 0);
}
