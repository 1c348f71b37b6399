// Pipelines of templates and files on the real server: the gallery, export, import, and Dify's apps.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { skip, start_server } from './server.mjs';

let server;
before(async () => {
  if (!skip) server = await start_server();
});
after(() => server?.stop());
const TIMEOUT = { skip, timeout: 240_000 };

test('a template is used by one click and runs with its sample; its export is imported again', TIMEOUT, () =>
  server.with_page(async (page) => {
    await page.goto(`${server.url}/pipelines`);
    await page.getByText('No pipeline yet').waitFor();
    await page.getByRole('button', { name: 'Choose a template' }).click();
    const cards = page.getByRole('list', { name: 'Templates' }).getByRole('listitem');
    await cards.nth(12).waitFor();
    assert.equal(await cards.count(), 13);
    await cards.filter({ hasText: 'Code helper' }).getByText('needs a stronger model').waitFor();
    await page.getByRole('button', { name: 'Use Summarise a document' }).click();
    await page.waitForURL(/\/pipelines\/summarise$/);
    await page.getByRole('button', { name: 'Run', exact: false }).last().click();
    assert.match(await page.getByRole('textbox').first().inputValue(), /library is closed/);
    await page.locator('form').getByRole('button', { name: 'Run' }).click();
    await page.getByText(/succeeded in/).waitFor();

    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export as a file' }).click()]);
    assert.equal(download.suggestedFilename(), 'summarise.yaml');
    const text = await readFile(await download.path(), 'utf8');
    assert.match(text, /^kind: capstan-pipeline/m);

    await page.goto(`${server.url}/pipelines?dialog=import`);
    await page.locator('input[type=file]').setInputFiles({ name: 'summarise.yaml', mimeType: 'application/yaml', buffer: Buffer.from(text) });
    await page.getByText('A pipeline of Capstan').waitFor();
    await page.getByLabel('Name').fill('summarise');
    await page.getByText('There is one of this name.').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Make the pipeline' }).isDisabled());
    await page.getByLabel('Name').fill('again');
    await page.getByRole('button', { name: 'Make the pipeline' }).click();
    await page.waitForURL(/\/pipelines\/again$/);
    const [first, second] = await Promise.all(['summarise', 'again'].map((name) => server.api('GET', `/api/pipelines/${name}`)));
    assert.deepEqual(second.definition, first.definition);
  }),
);

test('what of an app of Dify does not map is told before anything is made', TIMEOUT, () =>
  server.with_page(
    async (page) => {
      await page.goto(`${server.url}/pipelines?dialog=import`);
      const text = page.getByLabel('Or paste its text');
      await text.fill('app: [');
      await page.getByText('This cannot be imported').waitFor();
      await text.fill(await readFile(new URL('../../data/dify/unmapped.yml', import.meta.url), 'utf8'));
      await page.getByText('An app of Dify').waitFor();
      await page.getByRole('heading', { name: '3 of 5 nodes map' }).waitFor();
      await page.getByText('teleporter: nodes of this type are not known here').waitFor();
      await page.getByText("the secret 'KEY' is not in the file").waitFor();
      assert.ok(!(await server.api('GET', '/api/pipelines')).items.some((one) => one.name === 'strange'));

      const chatflow = await readFile(new URL('../../data/dify/llm-chatflow.yml', import.meta.url));
      await page.locator('input[type=file]').setInputFiles({ name: 'chatflow.yml', mimeType: 'application/yaml', buffer: chatflow });
      await page.getByRole('heading', { name: /^All \d+ nodes map/ }).waitFor();
      await page.getByLabel('Name').fill('from-dify');
      await page.getByRole('button', { name: 'Make the pipeline' }).click();
      await page.waitForURL(/\/pipelines\/from-dify$/);
      // Its model has another name there: what can be called here was put in its place.
      const { definition } = await server.api('GET', '/api/pipelines/from-dify');
      assert.deepEqual([...new Set(definition.nodes.map((node) => node.config.model).filter(Boolean))], ['smart']);
    },
    [/400/],
  ),
);
