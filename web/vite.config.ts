import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// The server that `npm run dev` talks to: the mock of `npm run mock`, or a real one.
const server = process.env.CAPSTAN_URL ?? 'http://127.0.0.1:4199';
const proxy = { target: server, changeOrigin: true };

export default defineConfig({
  plugins: [svelte()],
  // The server replaces this placeholder in index.html by a fresh nonce on every page load.
  html: { cspNonce: '__CSP_NONCE__' },
  build: {
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    manifest: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 200,
    rolldownOptions: {
      output: {
        // The first screen is one file: brotli does better on it than on ten, and it is one request.
        codeSplitting: { groups: [{ name: 'first', test: /node_modules\/svelte\/(?!src\/reactivity|.*\/bindings\/|.*\/(clone|async|boundary|transitions|portal|component-props))|src\/(lib\/(events|format|keyboard|range|resource|router|session|toast)|screens\/Home|ui\/(Badge|Button|Chart|Icon|Logo|PageHead|Problem|Segmented|Shell|Skeleton|Toasts))\.|src\/(api|map)\.ts/ }] },
      },
    },
  },
  server: { proxy: { '/api': proxy, '/v1': proxy, '/healthz': proxy } },
});
