// Knowledge on the real server: make a collection, drop files on it, search, see the chunk on its page, change it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open_page } from './browser.mjs';

const root = new URL('../../../', import.meta.url);
const program = process.env.CAPSTAN_BINARY ?? new URL('build/capstan', root).pathname;
const skip = existsSync(program) ? false : 'the program is not built';
const shots = process.env.CAPSTAN_TEST_SHOTS; // a folder for pictures of the screens
let browser, folder, server;

before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), 'capstan-knowledge-'));
  await writeFile(join(folder, 'capstan.yaml'), 'providers: {}\nknowledge: { http_allow: ["127.0.0.1:*"] }\n');
  const child = spawn(program, ['serve', '--data', join(folder, 'data'), '--listen', '127.0.0.1:0'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  server = await new Promise((found, failed) => {
    const timer = setTimeout(() => failed(new Error(`nothing from capstan: ${text}`)), 15_000);
    const look = (more) => {
      text += more;
      const match = /console:\s+(http:\/\/127\.0\.0\.1:\d+)\/#setup=(\S+)[\s\S]*first key: (cap_\S+)/.exec(text);
      if (!match) return;
      clearTimeout(timer);
      found({ child, url: match[1], key: match[3] });
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  if (server) await new Promise((done) => server.child.once('exit', done).kill());
  if (folder) await rm(folder, { recursive: true, force: true });
});

// Drops files as a person does, by a DataTransfer made in the page.
async function drop(page, files) {
  const transfer = await page.evaluateHandle((list) => {
    const data = new DataTransfer();
    for (const { name, bytes } of list) data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
    return data;
  }, files.map(({ name, bytes }) => ({ name, bytes: bytes.toString('base64') })));
  await page.locator('.drop').dispatchEvent('drop', { dataTransfer: transfer });
}
async function shot(page, name) {
  if (!shots) return;
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.waitForTimeout(150);
    await page.screenshot({ path: join(shots, `${name}-${scheme}.png`) });
  }
  await page.emulateMedia({ colorScheme: 'light' });
}

test('create, drop files, search, see the chunk on its page, edit it', { skip }, async () => {
  const { page, problems, close } = await open_page(browser, {}, [/401/]);
  try {
    await page.goto(server.url);
    await page.getByLabel('Key').fill(server.key);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor();

    await page.goto(`${server.url}/knowledge`);
    await page.getByText('No collection yet').waitFor();
    await shot(page, 'collections-empty');
    await page.getByRole('button', { name: 'New collection' }).first().click();
    await page.getByLabel('Name', { exact: true }).fill('handbook');
    await page.getByLabel('Found by').selectOption('none');
    await shot(page, 'collection-new');
    await page.getByRole('button', { name: 'Create' }).click();
    await page.getByRole('heading', { level: 1, name: 'handbook' }).waitFor();

    const data = new URL('tests/data/extract/', root);
    await drop(page, [
      { name: 'report.pdf', bytes: readFileSync(new URL('report.pdf', data)) },
      { name: 'guide.md', bytes: readFileSync(new URL('guide.md', data)) },
      { name: 'broken.pdf', bytes: readFileSync(new URL('broken.pdf', data)) },
    ]);
    await page.getByRole('row', { name: /report\.pdf.*ready/ }).waitFor();
    await page.getByRole('row', { name: /guide\.md.*ready/ }).waitFor();
    const broken = page.getByRole('row', { name: /broken\.pdf/ });
    await broken.getByText('failed', { exact: true }).waitFor();
    await page.getByText('could not be taken in').first().waitFor();
    await shot(page, 'collection-documents');

    // A word of the PDF that its extraction gave.
    const listed = await page.evaluate(async () => (await fetch('/api/collections/handbook/documents')).json());
    const report = listed.items.find((one) => one.name === 'report.pdf');
    const words = await page.evaluate(async (id) => (await fetch(`/api/collections/handbook/documents/${id}/text`)).text(), report.id);
    const word = words.match(/\b[A-Za-z]{7,}\b/)[0];

    await page.getByRole('radio', { name: 'Search' }).click();
    await page.getByRole('searchbox', { name: 'Question' }).fill(word);
    await page.keyboard.press('Enter');
    if (shots) await page.waitForTimeout(500);
    await shot(page, 'collection-search');
    const hit = page.getByRole('list', { name: 'Hits' }).getByRole('listitem').filter({ hasText: 'report.pdf' }).first();
    await hit.waitFor();
    await hit.getByRole('link', { name: 'report.pdf' }).click();
    await page.getByRole('heading', { level: 1, name: 'report.pdf' }).waitFor();
    await page.locator('.mark').first().waitFor();
    const drawn = await page.locator('canvas').evaluate((canvas) => {
      const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      let dark = 0;
      for (let i = 0; i < pixels.length; i += 4) if (pixels[i] + pixels[i + 1] + pixels[i + 2] < 200) dark++;
      return dark;
    });
    assert.ok(drawn > 50, 'the page was drawn');
    await shot(page, 'document-pdf');

    const guide = listed.items.find((one) => one.name === 'guide.md');
    await page.goto(`${server.url}/knowledge/handbook/${guide.id}`);
    await page.locator('mark').waitFor();
    await shot(page, 'document-text');
    await page.getByRole('button', { name: 'Edit' }).first().click();
    await page.getByLabel('Text of the chunk').fill('Zebrafish are described here.');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('edited').waitFor();
    const found = await page.evaluate(async () => {
      const { csrf } = await (await fetch('/api/session')).json();
      const answer = await fetch('/api/collections/handbook/search', {
        method: 'POST', headers: { 'content-type': 'application/json', 'x-csrf-token': csrf }, body: JSON.stringify({ query: 'zebrafish' }),
      });
      return (await answer.json()).items.map((one) => one.document);
    });
    assert.deepEqual(found, ['guide.md']);

    await page.goto(`${server.url}/knowledge/handbook/${guide.id}`);
    await page.getByRole('button', { name: 'Attributes' }).click();
    await page.getByRole('button', { name: 'Add an attribute' }).click();
    await page.getByLabel('Name of attribute 1').fill('year');
    await page.getByLabel('Value of attribute 1').fill('2026');
    await shot(page, 'document-attributes');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('year: 2026').waitFor();

    await page.goto(`${server.url}/knowledge/handbook?tab=search&mode=text&q=zebrafish`);
    await page.getByText('Zebrafish are described here.').waitFor();
    await page.getByRole('button', { name: 'Condition' }).click();
    await page.getByLabel('Attribute', { exact: true }).fill('year');
    await page.getByLabel('Comparison').selectOption('>');
    await page.getByLabel('Value', { exact: true }).fill('2026');
    await page.getByRole('button', { name: 'Add the condition' }).click();
    await page.getByText('Nothing was found').waitFor();
    assert.equal(await page.getByLabel('Filter').inputValue(), 'year > 2026');
    await shot(page, 'filter-builder');

    await page.goto(`${server.url}/knowledge/handbook?tab=settings`);
    await page.getByLabel('Description').fill('What everybody should know');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved.').waitFor();
    await page.getByLabel('Read by').selectOption('docling');
    await page.getByLabel('Address').fill('http://10.0.0.5:5001');
    await page.getByLabel('Seconds at most').fill('600');
    await Promise.all([
      page.waitForResponse((answer) => answer.request().method() === 'PATCH' && answer.status() === 200),
      page.getByRole('button', { name: 'Save' }).click(),
    ]);
    await page.reload();
    await page.getByLabel('Address').waitFor();
    assert.equal(await page.getByLabel('Read by').inputValue(), 'docling');
    assert.equal(await page.getByLabel('Address').inputValue(), 'http://10.0.0.5:5001');
    assert.equal(await page.getByLabel('Seconds at most').inputValue(), '600');
    await page.getByLabel('Read by').selectOption('vision');
    await page.getByLabel('Route that sees').waitFor();
    await shot(page, 'collection-settings');
    assert.deepEqual(problems, [], 'errors in the browser');
  } finally {
    await close();
  }
});

test('a source: add it, watch its sync, see what failed, sync again, remove it', { skip }, async () => {
  const pages = { '/a': 'Anchors hold ships.', '/b': 'Buoys mark the channel.' };
  const site = createServer((request, answer) => {
    const text = pages[request.url];
    answer.writeHead(text ? 200 : 404, { 'content-type': 'text/plain' }).end(text ?? 'none');
  });
  await new Promise((done) => site.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${site.address().port}`;
  const { page, problems, close } = await open_page(browser, {}, [/401/]);
  try {
    await page.goto(server.url);
    await page.getByLabel('Key').fill(server.key);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor();
    await page.evaluate(async () => {
      const { csrf } = await (await fetch('/api/session')).json();
      await fetch('/api/collections', { method: 'POST', headers: { 'content-type': 'application/json', 'x-csrf-token': csrf }, body: JSON.stringify({ name: 'harbour', encoder: 'none' }) });
    });
    await page.goto(`${server.url}/knowledge/harbour?tab=sources`);
    await page.getByText('No source yet').waitFor();
    await shot(page, 'sources-empty');
    await page.getByRole('button', { name: 'Add a source' }).click();
    await page.getByLabel('Kind').selectOption('urls');
    await page.getByLabel('Name', { exact: true }).fill('web');
    await page.getByLabel('Addresses').fill([`${url}/a`, `${url}/b`, `${url}/c`].join('\n'));
    await shot(page, 'source-new');
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    const row = page.getByRole('row', { name: /web/ });
    await row.getByText('2 new').waitFor();
    await row.getByRole('button', { name: '1 error' }).click();
    await page.getByText('the server answered with status 404').waitFor();
    await shot(page, 'source-errors');
    await page.getByRole('button', { name: 'Close' }).click();
    pages['/c'] = 'Capstans lift anchors.';
    await row.getByRole('button', { name: 'Sync web now' }).click();
    await row.getByText('1 new').waitFor();
    await shot(page, 'sources');
    await row.getByRole('button', { name: 'Remove web' }).click();
    await page.getByRole('button', { name: 'Delete them, too' }).click();
    await page.getByText('No source yet').waitFor();
    await page.getByRole('radio', { name: 'Documents' }).click();
    await page.getByText('Nothing is in it yet').waitFor();
    assert.deepEqual(problems, [], 'errors in the browser');
  } finally {
    await close();
    await new Promise((done) => site.close(done));
  }
});

test('judged questions, two settings compared, tuned and applied', { skip }, async () => {
  const { page, problems, close } = await open_page(browser, {}, [/401/]);
  page.setDefaultTimeout(60_000);
  try {
    await page.goto(server.url);
    await page.getByLabel('Key').fill(server.key);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor();
    // Documents by the API: what is tested here is the screen. Long ones say a word often, short ones answer.
    const topics = ['boundary layer', 'heat transfer', 'shock wave', 'wing flutter', 'jet noise'];
    await page.evaluate(async (words) => {
      const { csrf } = await (await fetch('/api/session')).json();
      const post = (path, body) => fetch(path, { method: 'POST', headers: { 'content-type': 'application/json', 'x-csrf-token': csrf }, body: JSON.stringify(body) });
      await post('/api/collections', { name: 'wind', encoder: 'none', ranking: { k1: 9, b: 0.05 } });
      for (const [i, topic] of words.entries()) {
        await post('/api/collections/wind/documents', { name: `short-${i}`, text: `Measurements of ${topic} in a tunnel.` });
        await post('/api/collections/wind/documents', { name: `long-${i}`, text: `Notes on ${topic.split(' ')[0]} and other things. `.repeat(40) });
      }
    }, topics);
    await page.waitForFunction(async () => (await (await fetch('/api/collections/wind')).json()).documents.ready === 10, null, { polling: 300 });

    await page.goto(`${server.url}/knowledge/wind?tab=quality`);
    await page.getByText('No question yet').waitFor();
    await shot(page, 'quality-empty');
    await page.getByLabel('Question', { exact: true }).fill('what is boundary layer');
    await page.getByLabel('Answered by').fill('short-0');
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByText('1 accepted').waitFor();
    const lines = topics.slice(1).map((topic, i) => JSON.stringify({ text: `what is ${topic}`, relevant: { [`short-${i + 1}`]: 1 } }));
    lines.push(JSON.stringify({ text: 'not looked at', relevant: { 'short-0': 1 }, state: 'proposed' }));
    await page.getByLabel('File of questions').setInputFiles({ name: 'questions.jsonl', mimeType: 'application/json', buffer: Buffer.from(lines.join('\n')) });
    await page.getByText('5 accepted, 1 to be looked at').waitFor();
    await page.getByRole('button', { name: 'Accept' }).click();
    await page.getByText('6 accepted').waitFor();
    await page.getByRole('button', { name: 'Remove the question not looked at' }).click();
    await page.getByText('5 accepted').waitFor();

    await page.getByLabel('B k1').fill('1.2');
    await page.getByLabel('B b (length)').fill('0.9');
    await page.getByRole('button', { name: 'Compare' }).click();
    await page.getByRole('table', { name: 'Compared' }).getByText('nDCG@10').waitFor();
    await shot(page, 'quality-compared');

    await page.getByLabel('also chunk sizes').check();
    await page.getByRole('button', { name: 'Try settings' }).click();
    const tried = page.getByRole('table', { name: 'Tried settings' });
    await tried.waitFor();
    assert.ok((await tried.getByRole('row').count()) > 16);
    await shot(page, 'quality-tuned');
    // In force is a setting that pays no regard to length, so there is something to apply.
    page.once('dialog', (dialog) => dialog.accept());
    await page.getByRole('button', { name: 'Apply', exact: true }).click();
    await page.getByText('Applied.').waitFor();
    const definition = await page.evaluate(async () => (await (await fetch('/api/collections/wind')).json()).definition);
    assert.ok(definition.ranking, JSON.stringify(definition));
    assert.deepEqual(problems, [], 'errors in the browser');
  } finally {
    await close();
  }
});
