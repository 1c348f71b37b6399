// Tools on the real server: a web service added, tried, chosen in a node of the canvas and found where it is used; an
// OpenAPI document fetched; presets on the palette. CAPSTAN_TEST_SHOTS=FOLDER keeps pictures of each step.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open_page, TIMEOUT_MS } from './browser.mjs';

const program = process.env.CAPSTAN_BINARY ?? new URL('../../../build/capstan', import.meta.url).pathname;
const skip = existsSync(program) ? false : 'the program is not built';
const shots = process.env.CAPSTAN_TEST_SHOTS;
let browser, folder, service, address, server;

const pets = () => ({
  openapi: '3.1.0',
  info: { title: 'Pets', version: '1' },
  servers: [{ url: `${address}/shop` }],
  paths: {
    '/pets/{id}': { get: { operationId: 'getPet', summary: 'One pet', parameters: [{ name: 'id', in: 'path', required: true, schema: { type: 'integer' } }] } },
    '/pets': { post: { operationId: 'addPet', summary: 'A new pet' } },
  },
});

before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), 'capstan-tools-'));
  service = createServer((request, response) => {
    const body = request.url === '/openapi.json' ? pets() : { path: request.url, key: request.headers['x-api-key'] ? 'given' : null };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(body));
  });
  await new Promise((done) => service.listen(0, '127.0.0.1', done));
  address = `http://127.0.0.1:${service.address().port}`;
  await writeFile(join(folder, 'capstan.yaml'), 'pipelines:\n  http_allow: ["127.0.0.1:*"]\n');
  const child = spawn(program, ['serve', '--data', join(folder, 'data'), '--listen', '127.0.0.1:0'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  server = await new Promise((found, failed) => {
    let text = '';
    const look = (more) => {
      text += more;
      const match = /console:\s+(http:\/\/127\.0\.0\.1:\d+)\/#setup=(\S+)[\s\S]*first key: (cap_\S+)/.exec(text);
      if (match) found({ child, match });
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', (code) => failed(new Error(`capstan ended with ${code}: ${text}`)));
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  if (server) await new Promise((done) => server.child.removeAllListeners('exit').once('exit', done).kill());
  service?.closeAllConnections();
  service?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

test('a tool from its form to a node of the canvas', { skip }, async () => {
  const [, url, , key] = server.match;
  const { page, problems, close } = await open_page(browser, {}, [/401/]);
  page.on('dialog', (dialog) => dialog.accept());
  const keep = async (name) => {
    if (!shots) return;
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.screenshot({ path: join(shots, `${name}-${scheme}.png`), fullPage: true });
    }
  };
  const field = (label) => page.getByLabel(new RegExp(`^${label}(\\s*optional)?$`));
  await page.goto(url);
  await page.evaluate((secret) => fetch('/api/session', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ key: secret }) }), key);

  await page.goto(`${url}/tools`);
  await page.getByText('No tool yet').waitFor();
  await page.getByRole('link', { name: 'Add a tool' }).first().click();
  await page.getByRole('button', { name: 'Wikipedia' }).waitFor();
  assert.ok(await page.getByRole('button', { name: 'web search' }).isDisabled());
  await page.getByLabel('Name', { exact: true }).fill('weather');
  await field('Description').fill('The weather of a city.');
  await page.getByLabel('Address', { exact: true }).fill(`${address}/weather/{city}`);
  await page.getByRole('button', { name: 'Add an argument' }).click();
  await page.getByLabel('Name of argument 1').fill('city');
  await page.getByLabel('Description of argument 1').fill('Its name');
  await field('Headers').fill('X-Api-Key: key-0123456789abcdefWXYZ');
  await keep('tool-new');
  await page.getByRole('button', { name: /^Add\s*(Ctrl|⌘|$)/ }).click();

  await page.getByText('Try it').waitFor();
  assert.equal(await field('Headers').inputValue(), 'X-Api-Key: …WXYZ');
  await field('city').fill('Bonn');
  await page.getByRole('button', { name: 'Call it' }).click();
  await page.getByText('It answered.').waitFor();
  await page.getByRole('region', { name: 'The answer' }).getByText('"/weather/Bonn"').waitFor();
  await page.getByRole('region', { name: 'The answer' }).getByText('"given"').waitFor();
  await page.getByText('No pipeline names it yet').waitFor();
  await field('Description').fill('The weather of any city.');
  await page.getByRole('button', { name: /^Save/ }).click();
  await page.getByText('weather is saved and in use.').waitFor();
  await keep('tool-tried');

  await page.goto(`${url}/tools/new`);
  await page.getByRole('button', { name: 'OpenAPI' }).click();
  await page.getByLabel('Name', { exact: true }).fill('pets');
  await field('Its address').fill(`${address}/openapi.json`);
  await page.getByRole('button', { name: 'Fetch it' }).click();
  await page.getByText('Operations: 2 of 2').waitFor();
  await page.getByRole('checkbox', { name: 'addPet' }).uncheck();
  await page.getByText('Operations: 1 of 2').waitFor();
  await keep('tool-openapi');
  await page.getByRole('button', { name: /^Add\s*(Ctrl|⌘|$)/ }).click();
  await page.getByText('Try it').waitFor();

  await page.evaluate(async () => {
    const { csrf } = await (await fetch('/api/session')).json();
    const definition = { schema: 1, nodes: [{ id: 'start', type: 'start', position: { x: 0, y: 0 }, config: { inputs: [{ name: 'query', type: 'string' }] } }, { id: 'work', type: 'tool', position: { x: 300, y: 0 }, config: {} }], edges: [{ from: 'start', to: 'work' }] };
    await fetch('/api/pipelines', { method: 'POST', headers: { 'content-type': 'application/json', 'x-csrf-token': csrf }, body: JSON.stringify({ name: 'forecast', definition }) });
  });
  await page.goto(`${url}/pipelines/forecast`);
  await page.locator('.svelte-flow__node', { hasText: 'Tool' }).first().click();
  const panel = page.getByRole('complementary', { name: 'The chosen node' });
  await panel.getByLabel('Tool', { exact: false }).first().fill('weath');
  await page.getByRole('option', { name: 'weather' }).click();
  await keep('tool-node');
  await page.keyboard.press('Escape');
  await panel.getByRole('button', { name: 'Close' }).click();
  await page.keyboard.press('n');
  await page.getByLabel('Which node?').fill('smart');
  await page.getByRole('option', { name: 'Wikipedia' }).waitFor();
  await keep('palette');
  await page.getByRole('option', { name: 'Wikipedia' }).click();
  await page.locator('.svelte-flow__node', { hasText: 'Wikipedia' }).waitFor();

  // The draft is saved by itself; where the tool is used is known when it is.
  const uses = () => page.evaluate(async () => (await (await fetch('/api/tools/weather/use')).json()).items.length);
  for (const deadline = Date.now() + TIMEOUT_MS; !(await uses()); ) assert.ok(Date.now() < deadline, 'the draft was not saved');
  await page.goto(`${url}/tools/weather`);
  await page.getByRole('link', { name: 'forecast' }).waitFor();
  await page.goto(`${url}/tools`);
  await page.getByRole('cell', { name: 'OpenAPI' }).waitFor();
  await keep('tools');
  await page.goto(`${url}/tools/pets`);
  await page.getByRole('button', { name: 'Delete this tool' }).click();
  await page.getByText('pets is deleted.').waitFor();
  assert.deepEqual(problems, [], 'errors in the browser');
  await close();
});
