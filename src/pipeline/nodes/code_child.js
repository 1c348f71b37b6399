// What runs in a code node's Node.js child: scripts that people wrote, one call after the other.
// The walls around the process (io/sandbox) are what confines them; nothing here is relied on.
//
//   in:  a line of JSON  {"source": …, "inputs": {…}}; `source` is the same for as long as it lives
//   out: a line of JSON  {"ok": true, "result": …, "log": …} or {"ok": false, "error": …, "log": …},
//        in ASCII and in pieces: "+piece" …, "=last piece"
'use strict';
const fs = require('fs');
const vm = require('vm');
const util = require('util');
const LOG_MAX = 16384;
const PIECE = 4000;
let rest = Buffer.alloc(0);
let script = null;

function read_line() {
  const parts = [rest];
  for (;;) {
    const last = parts[parts.length - 1];
    const at = last.indexOf(10);
    if (at >= 0) {
      rest = last.subarray(at + 1);
      parts[parts.length - 1] = last.subarray(0, at);
      return Buffer.concat(parts).toString('utf8');
    }
    const chunk = Buffer.allocUnsafe(65536);
    const n = fs.readSync(0, chunk);
    if (n === 0) process.exit(0);
    parts.push(chunk.subarray(0, n));
  }
}

function write_all(text) {
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at);
}

function answer(value) {
  const text = JSON.stringify(value).replace(/[\u007f-\uffff]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
  let at = 0;
  for (; text.length - at > PIECE; at += PIECE) write_all('+' + text.slice(at, at + PIECE) + '\n');
  write_all('=' + text.slice(at) + '\n');
}

function describe(error) {
  const message = error !== null && typeof error === 'object' && 'message' in error ? `${error.name}: ${error.message}` : String(error);
  const line = /code\.js:(\d+)/.exec(error?.stack ?? '');
  return (line ? `${message} (line ${line[1]})` : message).slice(0, 400);
}

function make_console(log) {
  const write = (...values) => {
    if (log.text.length < LOG_MAX) log.text = (log.text + util.format(...values) + '\n').slice(0, LOG_MAX);
  };
  return { log: write, info: write, warn: write, error: write, debug: write };
}

async function call(request, log) {
  script ??= new vm.Script(request.source + '\n;typeof main === "function" ? main : undefined', { filename: 'code.js' });
  const globals = { console: make_console(log), require, Buffer, URL, URLSearchParams, TextEncoder, TextDecoder, atob, btoa, structuredClone, setTimeout, clearTimeout };
  const context = vm.createContext(globals);
  const main = script.runInContext(context);
  if (typeof main !== 'function') throw new Error('the code has no function main(inputs)');
  const inputs = vm.runInContext('JSON.parse', context)(JSON.stringify(request.inputs));
  const result = await main(inputs);
  if (result === null || typeof result !== 'object' || Array.isArray(result)) throw new Error('main must return an object with the outputs');
  return JSON.parse(JSON.stringify(result));
}

(async () => {
  for (;;) {
    const log = { text: '' };
    try {
      const result = await call(JSON.parse(read_line()), log);
      answer({ ok: true, result, log: log.text });
    } catch (error) {
      answer({ ok: false, error: describe(error), log: log.text });
    }
  }
})();
// What a script left behind (a rejected promise, a throwing timer) must not end a later call.
process.on('uncaughtException', () => {});
process.on('unhandledRejection', () => {});
