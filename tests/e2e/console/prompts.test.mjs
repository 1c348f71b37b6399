// Prompts on the real server: made, rendered, run, saved as a version, compared, labelled.
// CAPSTAN_TEST_SHOTS=FOLDER keeps pictures of each step.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open_page } from './browser.mjs';

const program = process.env.CAPSTAN_BINARY ?? new URL('../../../build/capstan', import.meta.url).pathname;
const skip = existsSync(program) ? false : 'the program is not built';
const shots = process.env.CAPSTAN_TEST_SHOTS;
let browser, folder, upstream, server;

async function start(args, pattern) {
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  return new Promise((found, failed) => {
    const look = (more) => {
      text += more;
      const match = pattern.exec(text);
      if (match) found({ child, match });
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', (code) => failed(new Error(`capstan ${args[0]} ended with ${code}: ${text}`)));
  });
}
const stop = (one) => one && new Promise((done) => one.child.removeAllListeners('exit').once('exit', done).kill());

before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), 'capstan-prompts-'));
  upstream = await start(['mock', '--listen', '127.0.0.1:0'], /(http:\/\/127\.0\.0\.1:\d+)/);
  await writeFile(
    join(folder, 'capstan.yaml'),
    `providers:\n  openai: { format: openai, base_url: "${upstream.match[1]}/v1", api_key: sk-test }\nroutes:\n  smart: { targets: [ { provider: openai, model: gpt-5 } ] }\n`,
  );
  server = await start(['serve', '--data', join(folder, 'data'), '--listen', '127.0.0.1:0'], /console:\s+(http:\/\/127\.0\.0\.1:\d+)\/#setup=(\S+)[\s\S]*first key: (cap_\S+)/);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await stop(server);
  await stop(upstream);
  if (folder) await rm(folder, { recursive: true, force: true });
});

test('a prompt from nothing to production', { skip }, async () => {
  const [, url, , key] = server.match;
  // The preview refuses a prompt that is empty for a moment, while the editor's text is replaced.
  const { page, problems, close } = await open_page(browser, {}, [/401/, /400.*\/api\/prompts\/render/]);
  const keep = async (name) => {
    if (!shots) return;
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.screenshot({ path: join(shots, `${name}-${scheme}.png`) });
    }
  };
  await page.goto(url);
  await page.evaluate((secret) => fetch('/api/session', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ key: secret }) }), key);
  await page.goto(`${url}/prompts`);
  await page.getByText('No prompt yet').waitFor();
  await keep('empty');
  await page.getByRole('button', { name: 'New prompt' }).first().click();
  await page.getByLabel('Name').fill('support');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.getByLabel('Text of message 1').fill('You help the users of {{product}}.');
  await page.getByLabel('Model', { exact: true }).fill('smart');
  await page.getByRole('textbox', { name: 'product' }).fill('Capstan');
  await page.getByRole('textbox', { name: 'question' }).fill('How do I start?');
  await page.getByText('You help the users of Capstan.').waitFor();
  await page.getByLabel('Models to run it on, by comma').fill('smart, openai/gpt-other');
  await page.getByRole('button', { name: 'Run' }).click();
  await page.getByText(/\d+ ms, \d+ tokens/).nth(1).waitFor();
  await keep('edit');
  await page.getByLabel('Message of the version').fill('Names the product');
  await page.getByRole('button', { name: 'Save version' }).click();
  await page.getByText('Saved as version 2.').waitFor();
  await page.getByRole('tab', { name: 'Versions' }).or(page.getByRole('radio', { name: 'Versions' })).first().click();
  await page.getByRole('button', { name: 'Move production to version 2' }).click();
  await page.getByText('production is now version 2.').waitFor();
  await page.getByRole('button', { name: 'Compare' }).first().click();
  await page.locator('ins', { hasText: 'help' }).first().waitFor();
  await keep('versions');
  const answer = await page.evaluate(async (secret) => {
    const got = await fetch('/v1/chat/completions', { method: 'POST', headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' }, body: JSON.stringify({ model: 'prompt/support', variables: { product: 'X', question: 'Y' } }) });
    return got.status;
  }, key);
  assert.equal(answer, 200);
  await page.goto(`${url}/prompts/support?tab=use`);
  await page.getByRole('cell', { name: '2', exact: true }).first().waitFor();
  await keep('use');
  await page.goto(`${url}/prompts`);
  await page.getByText('production → 2').waitFor();
  await keep('list');
  assert.deepEqual(problems, [], 'errors in the browser');
  await close();
});
