// The console against the mock of the API: every screen opens clean, in light and dark, and what one does on them works.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open_page, start_mock } from './browser.mjs';

let browser, full, empty;
before(async () => {
  [browser, full, empty] = await Promise.all([launch(), start_mock(), start_mock('--empty')]);
});
after(() => Promise.all([browser?.close(), full?.stop(), empty?.stop()]));

async function with_page(work, options, expected) {
  const { page, problems, close } = await open_page(browser, options, expected);
  try {
    await work(page);
    assert.deepEqual(problems, [], 'errors in the browser');
  } finally {
    await close();
  }
}

const screens = {
  '/': 'Home', '/playground': 'Playground', '/calls': 'Calls', '/routes': 'Routes', '/routes/new': 'New route', '/routes/fast': 'fast',
  '/providers': 'Providers', '/providers/new': 'Add a provider', '/models': 'Models', '/keys': 'Keys', '/keys/new': 'New key',
  '/limits': 'Limits', '/spend': 'Spend', '/members': 'Members', '/prices': 'Prices', '/audit': 'Audit', '/settings': 'Settings', '/server': 'Server',
};
for (const [path, title] of Object.entries(screens)) {
  test(`${path} opens, full and empty, light and dark`, async () => {
    await with_page(async (page) => {
      await page.goto(full.url + path);
      await page.getByRole('heading', { level: 1, name: title }).waitFor();
    });
    await with_page(
      async (page) => {
        await page.goto(empty.url + path);
        if (path !== '/routes/fast') await page.getByRole('heading', { level: 1, name: title }).waitFor();
        else await page.getByText('There is no such route').waitFor();
      },
      { colorScheme: 'dark' },
      [/404/],
    );
  });
}

test('every control has a name and every page one main heading', async () => {
  await with_page(async (page) => {
    for (const path of Object.keys(screens)) {
      await page.goto(full.url + path);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.waitForTimeout(150);
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll('button, a[href], input:not([type=hidden]), select, textarea')]
          .filter((one) => !one.closest('[aria-hidden=true]') && one.getAttribute('aria-hidden') !== 'true')
          .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length || one.title))
          .map((one) => one.outerHTML.slice(0, 120)),
      );
      assert.deepEqual(nameless, [], path);
      assert.equal(await page.locator('h1').count(), 1, path);
    }
  });
});

test('text has the contrast of WCAG AA in both themes', async () => {
  for (const colorScheme of ['light', 'dark']) {
    await with_page(
      async (page) => {
        await page.goto(full.url + '/keys');
        await page.getByText('shop-production').waitFor();
        const worst = await page.evaluate(measure_contrast);
        assert.ok(worst.ratio >= 4.5, `${colorScheme}: ${worst.ratio.toFixed(2)} of "${worst.text}"`);
      },
      { colorScheme },
    );
  }
});
// In the page: the lowest contrast of any text with what lies behind it.
function measure_contrast() {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) =>
    [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let worst = { ratio: 21, text: '' };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const text = walk.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({ opacityProperty: true }) || element.closest('.sr, :disabled, script, style, noscript')) continue;
    let behind = element;
    let back = [0, 0, 0, 0];
    while (behind && back[3] < 255) {
      back = rgb(getComputedStyle(behind).backgroundColor);
      behind = behind.parentElement;
    }
    const [a, b] = [luminance(rgb(getComputedStyle(element).color)), luminance(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text };
  }
  return worst;
}

test('calls: new ones come in, filters are in the address, j and Enter open one, Back returns', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/calls');
    const first = page.locator('.viewport a').first();
    await first.waitFor();
    const before = await first.getAttribute('href');
    await page.waitForFunction((href) => document.querySelector('.viewport a').getAttribute('href') !== href, before);

    await page.keyboard.press('e');
    await page.waitForURL(/status=error/);
    await page.waitForFunction(() => [...document.querySelectorAll('.viewport a i')].every((dot) => dot.classList.contains('failed')));
    await page.keyboard.press('/');
    await page.keyboard.type('model:gpt-5 latency:>1s');
    await page.keyboard.press('Enter');
    await page.waitForURL((url) => url.searchParams.get('model') === 'gpt-5' && url.searchParams.get('min_latency_ms') === '1000');
    const address = page.url();

    await page.keyboard.press('Escape');
    await page.locator('.viewport a').first().waitFor();
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/calls\/call_/);
    await page.getByRole('heading', { name: 'Timing' }).waitFor();
    await page.keyboard.press('Escape');
    await page.waitForURL(address);
  });
});

test('calls: thousands of rows scroll with few elements', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/calls');
    await page.locator('.viewport a').first().waitFor();
    // To the end again and again: each time the next page is asked for, and makes the list taller.
    let height = 0;
    while (height < 40_000) {
      height = await page.evaluate(() => {
        const list = document.querySelector('.viewport');
        list.scrollBy(0, 1e6);
        return list.scrollHeight;
      });
      await page.waitForFunction((before) => document.querySelector('.viewport').scrollHeight > before, height);
    }
    const rows = await page.locator('.viewport a').count();
    assert.ok(rows < 80, `${rows} rows in the document`);
  });
});

test('playground: two models stream side by side, the numbers appear, the call is found and replayed', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/playground?model=smart&model=fast&temperature=0.2');
    await page.getByLabel('Message', { exact: true }).fill('Write some code.');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: /Stop/ }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll('article footer a').length === 2);
    await page.getByText('def add(a, b):').first().waitFor();
    assert.equal(await page.getByText(/tok\/s/).count(), 2);

    await page.locator('article footer a').first().click();
    await page.waitForURL(/\/calls\/call_/);
    await page.getByRole('link', { name: 'Replay' }).or(page.getByRole('button', { name: 'Replay' })).first().click();
    await page.waitForURL(/\/playground\?.*call=call_/);
    await page.locator('.said').getByText('Write some code.').waitFor();
    await page.waitForURL(/temperature=0\.2/);
    await page.getByRole('button', { name: 'Run' }).click();
    await page.locator('article footer a').first().waitFor();
  });
});

test('an answer is judged, commented and corrected in the playground; its call shows all of it', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/playground?model=smart');
    await page.getByLabel('Message', { exact: true }).fill('Write some code.');
    await page.keyboard.press('Enter');
    const feedback = page.getByRole('region', { name: 'Feedback' });
    await feedback.getByRole('button', { name: 'No', exact: true }).click();
    await feedback.locator('button[aria-pressed=true]', { hasText: 'No' }).waitFor();
    await feedback.getByRole('button', { name: 'Correct or comment' }).click();
    const correction = feedback.getByLabel('The answer as it should have been');
    assert.match(await correction.inputValue(), /def add/);
    await correction.fill('return a + b');
    await feedback.getByLabel('Comment', { exact: true }).fill('too long');
    await feedback.getByRole('button', { name: 'Keep' }).click();
    await correction.waitFor({ state: 'detached' });

    await page.locator('article footer a').first().click();
    await page.waitForURL(/\/calls\/call_/);
    await feedback.getByText('not good too long').waitFor();
    await feedback.locator('q', { hasText: 'return a + b' }).waitFor();
    await feedback.locator('button[aria-pressed=true]', { hasText: 'No' }).waitFor();
    await feedback.getByRole('button', { name: 'Yes', exact: true }).click();
    await feedback.getByText('not good').waitFor({ state: 'detached' });
    await feedback.getByText('good too long').waitFor(); // a thumb takes nothing of the rest away
  });
});

test('playground: stop keeps what came, an error says what to do', async () => {
  await with_page(
    async (page) => {
      await page.goto(full.url + '/playground?model=smart');
      await page.getByLabel('Message', { exact: true }).fill('Tell me something long.');
      await page.keyboard.press('Enter');
      await page.getByRole('button', { name: /Stop/ }).click();
      await page.getByText('Stopped.').waitFor();
      await page.goto(full.url + '/playground?model=unknown-model');
      await page.getByLabel('Message', { exact: true }).fill('Hello?');
      await page.keyboard.press('Enter');
      await page.getByText('No route, model or provider has the name').waitFor();
    },
    {},
    [/404/],
  );
});

test('a route is created, refused with the reason beside the field, changed, tested and deleted', async () => {
  await with_page(
    async (page) => {
      page.on('dialog', (dialog) => dialog.accept());
      await page.goto(full.url + '/routes/new');
      await page.getByLabel('Name', { exact: true }).fill('Not A Name');
      await page.getByLabel('Provider of target 1').fill('openai');
      await page.getByLabel('Model of target 1').fill('gpt-5');
      await page.getByLabel('First token').fill('20s');
      await page.getByRole('button', { name: /Create the route/ }).click();
      await page.getByText('A name has lower-case letters').waitFor();
      assert.equal(await page.getByLabel('Name', { exact: true }).getAttribute('aria-invalid'), 'true');
      await page.getByLabel('Name', { exact: true }).fill('clever');
      await page.keyboard.press('Control+Enter');
      await page.waitForURL(/\/routes\/clever$/);
      await page.getByRole('button', { name: 'Test' }).click();
      await page.getByText('Answered by').waitFor();
      assert.equal(await page.getByLabel('First token').inputValue(), '20s');
      await page.getByLabel('Retries').fill('4');
      await page.getByRole('button', { name: /^Save/ }).click();
      await page.getByText('clever is saved').waitFor();
      await page.getByRole('button', { name: 'Delete this route' }).click();
      await page.waitForURL(/\/routes$/);
    },
    {},
    [/422/],
  );
});

test('what the file owns is shown, locked and explained', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/routes/smart');
    await page.getByText('belongs to the configuration file').waitFor();
    assert.ok(await page.getByLabel('Retries').isDisabled());
    assert.equal(await page.getByRole('button', { name: /^Save/ }).count(), 0);
  });
});

test('a key is created and its secret shown once', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/keys/new');
    await page.getByLabel('Name', { exact: true }).fill('test-app');
    await page.getByLabel('Dollars a day').fill('5');
    await page.getByRole('button', { name: /Create the key/ }).click();
    const secret = await page.locator('.secret code').textContent();
    assert.match(secret, /^cap_/);
    await page.getByRole('button', { name: 'Copy the key' }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
    await page.getByRole('button', { name: 'I have copied it' }).click();
    await page.getByText('test-app').waitFor();
    assert.ok(!(await page.content()).includes(secret));
  });
});

test('a model is pulled with progress, started and stopped', async () => {
  await with_page(async (page) => {
    await page.goto(empty.url + '/models');
    await page.getByRole('button', { name: 'Install the engine' }).click();
    await page.getByText('Installing the engine').waitFor();
    await page.getByText('engine b8123').waitFor();
    await page.getByRole('button', { name: /Pull smollm2/ }).click();
    await page.getByRole('progressbar').waitFor();
    await page.getByRole('button', { name: 'Start' }).click();
    await page.getByText('Ready', { exact: true }).waitFor();
    await page.getByText('A model of this size knows little').waitFor();
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByText('Stopped', { exact: true }).waitFor();
  });
});

test('the palette finds screens, objects and calls', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/');
    await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor();
    await page.keyboard.press('Control+k');
    await page.getByRole('dialog', { name: 'Search and commands' }).waitFor();
    await page.keyboard.type('shop-prod');
    await page.getByRole('option', { name: /shop-production/ }).waitFor();
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/keys\/key_/);
    await page.getByRole('heading', { level: 1, name: 'shop-production' }).waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('g');
    await page.keyboard.press('c');
    await page.waitForURL(/\/calls$/);
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
  });
});

test('a person is invited by a link, and a limit set', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/members?invite=1');
    await page.getByLabel('E-mail').fill('new@example.com');
    await page.getByRole('button', { name: 'Make the link' }).click();
    await page.getByText('/#invite=').waitFor();
    await page.getByRole('button', { name: 'Done' }).click();
    await page.getByText('new@example.com').waitFor();

    await page.goto(full.url + '/limits?edit=new');
    await page.waitForTimeout(500); // the list behind the form has come
    await page.getByLabel('User', { exact: true }).last().fill('grace');
    await page.getByLabel('Dollars a month').fill('10');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('grace', { exact: true }).waitFor();
  });
});

test('spend: by day and by whom, with the budgets beside, and as a file', async () => {
  await with_page(async (page) => {
    await page.goto(full.url + '/spend');
    const total = page.locator('[data-total]');
    await total.filter({ hasText: 'tokens in' }).waitFor();
    const rows = page.locator('tbody tr');
    await rows.first().waitFor();
    const costs = await rows.evaluateAll((all) => all.map((row) => Number(row.cells[5].textContent.replace(/[$,–]/g, ''))));
    assert.ok(costs.length > 1 && costs.every((cost, i) => !i || costs[i - 1] >= cost), 'the dearest come first');

    await page.getByRole('radio', { name: 'Key', exact: true }).click();
    await page.waitForURL(/by=key/);
    await page.getByText('of $20.00 a day').waitFor(); // a key's budget, beside its name
    await page.getByRole('radio', { name: 'User', exact: true }).click();
    await page.getByText('of $2.00 a day').waitFor();
    await page.getByRole('radio', { name: '7 d', exact: true }).click();
    await page.waitForURL(/range=7d/);

    await page.getByRole('radio', { name: 'Model', exact: true }).click();
    await page.locator('tbody a[href*="model="]').first().waitFor();
    const name = await rows.first().locator('a').textContent();
    const file = page.waitForEvent('download');
    await page.getByRole('button', { name: 'CSV' }).click();
    assert.match((await file).suggestedFilename(), /^spend-by-model-[0-9-]+\.csv$/);
    await page.getByRole('link', { name, exact: true }).click();
    await page.waitForURL((url) => url.pathname === '/calls' && url.searchParams.get('model') === name);
  });
});

test('signing in: a wrong key says so, a right one goes on to where one was', async () => {
  const closed = await start_mock('--signed-out');
  try {
    await with_page(
      async (page) => {
        await page.goto(closed.url + '/routes');
        await page.getByLabel('Key').fill('cap_wrong');
        await page.keyboard.press('Enter');
        await page.getByText('This key is not known').waitFor();
        await page.getByLabel('Key').fill('cap_test');
        await page.keyboard.press('Enter');
        await page.getByRole('heading', { level: 1, name: 'Routes' }).waitFor();
      },
      {},
      [/401/],
    );
  } finally {
    await closed.stop();
  }
});

test('the first-run link signs in and leaves the address bar', async () => {
  const closed = await start_mock('--signed-out', '--empty');
  try {
    await with_page(
      async (page) => {
        await page.goto(closed.url + '/#setup=first');
        await page.getByRole('heading', { level: 1, name: 'Home' }).waitFor();
        await page.getByText('First steps').waitFor();
        assert.equal(new URL(page.url()).hash, '');
      },
      {},
      [/401/],
    );
  } finally {
    await closed.stop();
  }
});

test('a viewer sees no buttons that would be refused', async () => {
  const viewer = await start_mock('--role', 'viewer');
  try {
    await with_page(async (page) => {
      await page.goto(viewer.url + '/routes/fast');
      await page.getByText('Your role may look at this route').waitFor();
      assert.equal(await page.getByRole('link', { name: 'Members' }).count(), 0);
      await page.goto(viewer.url + '/keys');
      assert.ok(await page.getByRole('button', { name: /New key/ }).isDisabled());
    });
  } finally {
    await viewer.stop();
  }
});

test('at 200 ms of latency a change of theme, screen and state is still at once', async () => {
  const slow = await start_mock('--latency', '200');
  try {
    await with_page(async (page) => {
      await page.goto(slow.url + '/models');
      await page.getByRole('button', { name: 'Start' }).click();
      await page.getByText('Starting', { exact: true }).waitFor({ timeout: 150 });
      await page.getByRole('link', { name: 'Keys', exact: true }).click();
      await page.getByRole('heading', { level: 1, name: 'Keys' }).waitFor({ timeout: 150 });
    });
  } finally {
    await slow.stop();
  }
});
