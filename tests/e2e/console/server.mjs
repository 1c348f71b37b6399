// A real server for a test (build/capstan, or the one named by CAPSTAN_BINARY) with `capstan mock` as its provider,
// in a folder of its own, and a browser that is signed in by its first key.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch, open_page } from './browser.mjs';

const program = process.env.CAPSTAN_BINARY ?? new URL('../../../build/capstan', import.meta.url).pathname;
const START_TIMEOUT_MS = 60_000;
export const skip = existsSync(program) ? false : 'the program is not built';

async function start(folder, args, pattern) {
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  return new Promise((found, failed) => {
    const timer = setTimeout(() => failed(new Error(`nothing from capstan ${args[0]}: ${text}`)), START_TIMEOUT_MS);
    const look = (more) => {
      text += more;
      const match = pattern.exec(text);
      if (!match) return;
      clearTimeout(timer);
      found({ child, match });
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', (code) => failed(new Error(`capstan ${args[0]} ended with ${code}: ${text}`)));
  });
}
const stop = (one) => one && new Promise((done) => one.child.removeAllListeners('exit').once('exit', done).kill());

// { url, key, api(method, path, body), with_page(work, expected), stop() }
export async function start_server() {
  const folder = await mkdtemp(join(tmpdir(), 'capstan-e2e-'));
  const upstream = await start(folder, ['mock', '--listen', '127.0.0.1:0'], /(http:\/\/127\.0\.0\.1:\d+)/);
  await writeFile(
    join(folder, 'capstan.yaml'),
    `providers:\n  openai: { format: openai, base_url: "${upstream.match[1]}/v1", api_key: sk-test }\nroutes:\n  smart: { targets: [ { provider: openai, model: gpt-5 } ] }\n`,
  );
  const server = await start(folder, ['serve', '--data', join(folder, 'data'), '--listen', '127.0.0.1:0'], /console:\s+(http:\/\/127\.0\.0\.1:\d+)\/#setup=(\S+)[\s\S]*first key: (cap_\S+)/);
  const browser = await launch();
  const [, url, , key] = server.match;

  async function api(method, path, body, secret = key) {
    const response = await fetch(url + path, { method, headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' }, ...(body && { body: JSON.stringify(body) }) });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }
  // `expected`: patterns of console errors that the test provokes.
  async function with_page(work, expected = []) {
    const { page, problems, close } = await open_page(browser, {}, [/401/, ...expected]);
    try {
      await page.goto(url);
      await page.evaluate((secret) => fetch('/api/session', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ key: secret }) }), key);
      await work(page);
      assert.deepEqual(problems, [], 'errors in the browser');
    } catch (cause) {
      cause.message += `\n${page.url()} showed:\n${await page.locator('body').innerText()}`;
      throw cause;
    } finally {
      await close();
    }
  }
  return {
    url, key, api, with_page,
    async stop() {
      await browser.close();
      await stop(server);
      await stop(upstream);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
