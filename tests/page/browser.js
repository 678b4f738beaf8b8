// Debian's Chromium, the server for tests of the page, and what every page of a test must keep to:
// no request leaves the origin, no error, nothing against the policy.
'use strict';

const assert = require('assert');
const { spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { chromium } = require('playwright-core');

const pictures = process.env.US_PAGE_PICTURES;  // a folder for screenshots

function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu'],  // root in CI; frames keep their own processes
  });
}

// Starts a server whose answers are [{when, text}]; with a configuration it makes the offer.
// Resolves to {url, tell(line), stop()}; a line is obeyed when tell() is done.
function startPageServer(program, answers, config = '') {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'page-'));
  const file = path.join(folder, 'answers.jsonl');
  fs.writeFileSync(file, answers.map((answer) => `${JSON.stringify(answer)}\n`).join(''));
  const options = [file];
  if (config) {
    options.push(path.join(folder, 'config.toml'));
    fs.writeFileSync(options[1], config);
  }
  const server = spawn(program, options, { stdio: ['pipe', 'ignore', 'pipe'] });
  let log = '';
  let numDone = 0;
  const waiting = [];
  const stop = () => new Promise((resolve) => {
    server.removeAllListeners('exit');
    server.on('exit', () => {
      fs.rmSync(folder, { recursive: true });
      resolve();
    });
    server.stdin.end();
  });
  const tell = (line) => new Promise((resolve) => {
    waiting.push(resolve);
    server.stdin.write(`${line}\n`);
  });
  return new Promise((resolve, reject) => {
    server.on('exit', (code) => reject(new Error(`the server ended with ${code}:\n${log}`)));
    server.stderr.on('data', (data) => {
      log += data;
      const match = /listening on (http:\S+)/.exec(log);
      if (match) resolve({ url: match[1], tell, stop });
      for (const all = log.match(/^done$/gm) ?? []; numDone < all.length; ++numDone) {
        waiting.shift()();
      }
    });
  });
}

// A page of `url` in a fresh browser session, which prepare(page) sees before. close() checks what
// it did meanwhile; `allows` matches console errors that the test provokes.
async function openPage(browser, url, { allows = null, prepare = null, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 },
    acceptDownloads: true, ...options });
  const page = await context.newPage();
  const errors = [];
  const outside = [];
  page.on('pageerror', (error) => {
    if (!/\/preview:/.test(error.stack)) errors.push(error.stack ?? String(error));
  });
  page.on('console', (message) => {
    const text = `${message.text()} (${message.location().url})`;
    if (message.type() !== 'error' || message.location().url.endsWith('/preview')) return;
    if (allows?.test(text)) return;
    errors.push(text);
  });
  page.on('request', (request) => {
    const target = request.url();
    if (!target.startsWith(`${url}/`) && !/^(data|blob|about):/.test(target)) outside.push(target);
  });
  await prepare?.(page);
  const response = await page.goto(`${url}/`);
  assert.strictEqual(response.status(), 200);
  assert.match(response.headers()['content-security-policy'], /^default-src 'none';/);
  const close = async () => {
    await context.close();
    assert.deepStrictEqual(outside, [], 'requests to other origins');
    assert.deepStrictEqual(errors, [], 'errors');
  };
  return { page, context, close };
}

async function send(page, text) {
  await page.fill('textarea[name=message]', text);
  await page.keyboard.press('Enter');
}

// The newest answer, when it is complete.
async function answer(page, timeout = 15000) {
  const last = page.locator('.message.assistant').last();
  await last.locator('xpath=self::*[not(contains(@class, "is-running"))]').waitFor({ timeout });
  return last;
}

// The frame in which the answer's page runs.
async function previewFrame(page, selector = '.pane iframe') {
  const element = await page.waitForSelector(selector, { state: 'attached', timeout: 5000 });
  return element.contentFrame();
}

async function until(condition, what, timeout = 5000) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${timeout} ms: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

async function picture(page, name) {
  if (!pictures) return;
  await page.screenshot({ path: path.join(pictures, `${name}.png`) });
}

module.exports = {
  answer, launch, openPage, picture, previewFrame, send, startPageServer, until,
};
