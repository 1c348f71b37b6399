// The calls screen on a real server: its columns fit beside the menu, and an end user's calls are erased from it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { skip, start_server } from './server.mjs';

let server;
before(async () => {
  if (!skip) server = await start_server();
});
after(() => server?.stop());

const ask = (user) => server.api('POST', '/v1/chat/completions', { model: 'smart', user, messages: [{ role: 'user', content: 'Hello' }] });

test('all columns are in sight at every usual width', { skip }, async () => {
  await ask('ann');
  await server.with_page(async (page) => {
    await page.goto(server.url + '/calls');
    await page.getByRole('row').filter({ hasText: 'smart' }).first().waitFor();
    for (const width of [1024, 1280, 1300, 1366, 1440, 1920]) {
      await page.setViewportSize({ width, height: 800 });
      const beyond = await page.locator('.viewport').evaluate((one) => {
        const cells = [...one.querySelectorAll('[role=gridcell]')].map((cell) => cell.getBoundingClientRect().right);
        return Math.max(...cells) - (one.getBoundingClientRect().left + one.clientWidth);
      });
      assert.ok(beyond <= 0, `${width} pixels: ${beyond} beyond`);
    }
  });
});

test("an end user's calls are erased, and nobody else's", { skip }, async () => {
  await ask('bob');
  await ask('bob');
  await server.with_page(async (page) => {
    const warnings = [];
    page.on('dialog', (dialog) => {
      warnings.push(dialog.message());
      dialog.accept();
    });
    await page.goto(server.url + '/calls');
    await page.getByRole('row').filter({ hasText: 'bob' }).first().waitFor();
    assert.equal(await page.getByRole('button', { name: /Erase all calls/ }).count(), 0, 'only where one user is chosen');
    await page.goto(server.url + '/calls?user=bob');
    await page.getByRole('button', { name: 'Erase all calls of bob' }).click();
    await page.getByText('2 calls of bob are erased.').waitFor();
    await page.getByRole('row').filter({ hasText: 'ann' }).first().waitFor();
    assert.match(warnings[0], /Erase all calls of bob/);
    assert.equal((await server.api('GET', '/api/calls?user=bob')).items.length, 0);
  });
});
