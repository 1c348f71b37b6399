// What the console's tests share: a browser (Debian's Chromium, driven by playwright-core), a server to look at
// (the mock of web/dev), and pages that fail the test on any error or breach of the content security policy.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

const root = new URL('../../../', import.meta.url);
const { chromium } = createRequire(new URL('web/package.json', root))('playwright-core');
const PROGRAMS = [process.env.CAPSTAN_TEST_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
export const TIMEOUT_MS = 60_000;

export function launch() {
  const executablePath = PROGRAMS.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error('no Chromium: apt-get install chromium, or name one in CAPSTAN_TEST_CHROMIUM');
  return chromium.launch({ executablePath, args: ['--no-sandbox'] });
}

// Starts web/dev/mock.mjs on a port of its choice. Answers { url, stop }.
export async function start_mock(...args) {
  const child = spawn(process.execPath, [new URL('web/dev/mock.mjs', root).pathname, '--port', '0', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const url = await new Promise((found, failed) => {
    let text = '';
    child.stdout.on('data', (more) => {
      text += more;
      const match = /listening on (\S+)/.exec(text);
      if (match) found(match[1]);
    });
    child.on('exit', (code) => failed(new Error(`the mock ended with ${code}`)));
  });
  return { url, stop: () => new Promise((done) => child.once('exit', done).kill()) };
}

// A page, and what went wrong on it. `expected` are patterns of console errors that the test provokes.
export async function open_page(browser, options = {}, expected = []) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const problems = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    const text = `${message.text()} ${message.location().url}`;
    if (message.type() === 'error' && !expected.some((pattern) => pattern.test(text))) problems.push(text);
  });
  return { page, problems, close: () => context.close() };
}
