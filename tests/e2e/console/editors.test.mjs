// The editors on the real server, under its content security policy: highlighting, completion, languages, the keyboard.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { skip, start_server } from './server.mjs';

let server;
before(async () => {
  if (!skip) server = await start_server();
});
after(() => server?.stop());
const TIMEOUT = { skip, timeout: 240_000 };

test('a prompt: variables are marked and offered, Tab leaves the editor, what is typed is saved', TIMEOUT, () =>
  server.with_page(async (page) => {
    await server.api('POST', '/api/prompts', { name: 'greet', prompt: 'Hello {{name}}' });
    await page.goto(`${server.url}/prompts/greet`);
    const text = page.locator('.cm-content[aria-label="Text"]');
    await text.waitFor();
    const mark = text.locator('.cm-template-value', { hasText: '{{name}}' });
    await mark.waitFor();
    // The style came through the policy: the mark has the colour of an accent, not that of the text.
    const [marked, plain] = await Promise.all([mark, text].map((one) => one.evaluate((element) => getComputedStyle(element).color)));
    assert.notEqual(marked, plain);
    await text.click();
    await page.keyboard.press('Control+End');
    await page.keyboard.type(', dear {{na');
    await page.getByRole('option', { name: 'name' }).waitFor();
    await page.waitForFunction(() => document.querySelector('.cm-tooltip-autocomplete li[aria-selected]'));
    // The list takes keys only when it has been seen for a moment, so the choice is made by mouse.
    await page.getByRole('option', { name: 'name' }).click();
    await text.getByText(', dear').waitFor();
    assert.match(await text.innerText(), /Hello \{\{name\}\}, dear \{\{name\}\}+/);
    await text.fill('Good day, {{name}}.');
    await text.focus();
    await page.keyboard.press('Tab');
    assert.equal(await text.evaluate((element) => element.contains(document.activeElement)), false);
    await page.getByRole('button', { name: 'Save version' }).click();
    await page.getByText('Saved as version 2.').waitFor();
    assert.equal((await server.api('GET', '/api/prompts/greet')).prompt, 'Good day, {{name}}.');
  }, [/400.*\/render/]), // the preview of a tag that is being typed
);

test('a code node: the editor follows its language, and the draft holds what is typed', TIMEOUT, () =>
  server.with_page(async (page) => {
    const start = { id: 'start', type: 'start', position: { x: 0, y: 0 }, config: { inputs: [{ name: 'query', type: 'string' }] } };
    const code = { id: 'code', type: 'code', position: { x: 300, y: 0 }, config: { language: 'javascript', code: 'function main() { return {}; }', outputs: [{ name: 'n', type: 'number' }] } };
    await server.api('POST', '/api/pipelines', { name: 'coded', definition: { schema: 1, nodes: [start, code], edges: [{ from: 'start', to: 'code' }] } });
    await page.goto(`${server.url}/pipelines/coded`);
    await page.locator('[data-id="code"]').first().click();
    const text = page.locator('.cm-content[aria-label="Code"]');
    await text.waitFor();
    assert.equal(await text.getAttribute('data-language'), 'javascript');
    await page.getByLabel('Language').selectOption('python');
    await page.locator('.cm-content[aria-label="Code"][data-language="python"]').waitFor();
    await text.fill('def main():\n    return {"n": 3}');
    await page.getByText('Saved', { exact: true }).waitFor();
    const saved = async () => (await server.api('GET', '/api/pipelines/coded')).definition.nodes.find((node) => node.id === 'code').config;
    const begun = Date.now();
    while (!(await saved()).code.startsWith('def main')) assert.ok(Date.now() - begun < 60_000, 'the draft was not saved');
    assert.equal((await saved()).language, 'python');
  }),
);
