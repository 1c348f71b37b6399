// What the first screen costs: everything that a first visit to the home page loads, charts included, as brotli.
// Fails where it is over the budget.
import { readFileSync } from 'node:fs';
import { brotliCompressSync, constants } from 'node:zlib';

const BUDGET_BYTES = 60_000;
const dist = new URL('../dist/', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('.vite/manifest.json', dist)));
const first_screen = ['index.html', 'node_modules/uplot/dist/uPlot.esm.js'];

const files = new Set(['index.html', 'favicon.svg']);
function add(name) {
  const chunk = manifest[name];
  if (!chunk) throw new Error(`${name} is not in the manifest`);
  if (files.has(chunk.file)) return;
  files.add(chunk.file);
  for (const css of chunk.css ?? []) files.add(css);
  for (const other of chunk.imports ?? []) add(other);
}
first_screen.forEach(add);

let total = 0;
for (const file of files) {
  const bytes = brotliCompressSync(readFileSync(new URL(file, dist)), { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
  total += bytes;
  console.log(`${String(bytes).padStart(7)}  ${file}`);
}
console.log(`${String(total).padStart(7)}  first screen, of ${BUDGET_BYTES}`);
process.exit(total > BUDGET_BYTES ? 1 : 0);
