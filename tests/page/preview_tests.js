// What a model writes runs beside the chat, can do nothing to it, and is playable at once.
'use strict';

const assert = require('assert');
const http = require('http');
const { attacks, flood, game, html, leave, loop } = require('./answers.js');
const { answer, openPage, picture, previewFrame, send, until } = require('./browser.js');

const kGameRows = 247;  // 10,000 tokens

// A server that nobody may reach; counts who does.
function startEvil() {
  const seen = [];
  const server = http.createServer((request, response) => {
    seen.push(request.url);
    response.end();
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ seen, close: () => server.close(),
      url: `http://127.0.0.1:${server.address().port}` }));
  });
}

function answers(evil) {
  const say = (when, text) => ({ when, text: `<think></think>${text}` });
  return [
    say('ATTACK', attacks(evil, 'OWN')), say('LEAVE', leave(evil)), say('LOOP', loop),
    say('FLOOD', flood), say('GAME', `A game:\n\n${game(kGameRows)}\n\nHave fun.`),
    say('SCRIPT', '```js\nconsole.log("sum", 1 + 2, { a: 1 });\nthrow new Error("oops");\n```'),
    say('GROWS', html(['<p id="first">first</p>',
      ...Array.from({ length: 400 }, (_, i) => `<p>line ${i}</p>`), '<p id="last">last</p>'])),
  ];
}

// Seconds from sending to a game that answers to a key.
async function playGame(open) {
  const { page, close } = await open();
  const begin = Date.now();
  await page.setViewportSize({ width: 1120, height: 700 });
  await send(page, 'GAME');
  const frame = await previewFrame(page);
  await frame.waitForFunction(() => window.game, null, { timeout: 20000, polling: 20 });
  const before = await frame.evaluate(() => ({ ...window.game }));
  await page.locator('.pane iframe').focus();
  await page.keyboard.press('ArrowRight');
  await frame.waitForFunction(() => window.game.moves === 1, null, { polling: 20 });
  const seconds = (Date.now() - begin) / 1000;
  assert.strictEqual(await frame.evaluate(() => window.game.x), before.x + 1);
  const element = await answer(page);
  const number = async (name) => Number((await element.locator(name)
    .getAttribute('data-value')).replace(/[^\d.]/g, ''));
  const tokens = await number('.meter-tokens');
  const rate = await number('.meter-rate');
  console.log(`   playable after ${seconds.toFixed(2)} s, ${tokens} tokens at ${rate}/s`);
  await page.keyboard.press('ArrowLeft');
  await frame.waitForFunction(() => window.game.y > 150);
  await picture(page, 'page_game');
  assert.ok(tokens >= 10000 && tokens < 10300, `${tokens} tokens`);
  assert.ok(rate < 1050, `${rate} tokens a second`);
  await close();
  return seconds;
}

function tests({ browser, server, evil }) {
  const open = (options) => openPage(browser, server.url, options);
  const isAlive = async (page, limit = 1500) => {
    const begin = Date.now();
    await page.fill('textarea[name=message]', 'still here');
    assert.strictEqual(await page.inputValue('textarea[name=message]'), 'still here');
    assert.ok(Date.now() - begin < limit, `the page took ${Date.now() - begin} ms to type into`);
  };
  return {
    async 'renders while it streams'() {
      const { page, close } = await open();
      await server.tell('pace 4 4000');
      await send(page, 'GROWS');
      const frame = await previewFrame(page);
      await frame.waitForSelector('#first');
      assert.strictEqual(await frame.locator('#last').count(), 0);
      assert.ok(await page.locator('.is-running').count() === 1, 'it still streams');
      await page.keyboard.press('Escape');
      await answer(page);
      await server.tell('pace 16 1000');
      await page.click('.message-actions button:text("Again")');
      await answer(page);
      const whole = await previewFrame(page);
      await whole.waitForSelector('#last');
      assert.strictEqual(await whole.locator('p').count(), 402);
      await close();
    },

    async 'runs scripts and shows their console'() {
      const { page, close } = await open();
      await send(page, 'SCRIPT');
      await answer(page);
      await until(async () => /oops/.test(await page.locator('.console').innerText()), 'the error');
      assert.match(await page.locator('.console').innerText(), /sum 3 \{"a":1\}\n.*oops/s);
      await close();
    },

    async 'has its own policy'() {
      const response = await fetch(`${server.url}/preview`);
      assert.match(response.headers.get('content-security-policy'),
        /^sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; /);
      const { page, close } = await open();
      await send(page, 'GROWS');
      const frame = await previewFrame(page);
      assert.strictEqual(await (await frame.frameElement()).getAttribute('sandbox'),
        'allow-scripts');
      assert.strictEqual(await frame.evaluate(() => self.origin), 'null');
      await page.keyboard.press('Escape');
      await close();
    },

    async 'attacks of what it runs fail'() {
      const { page, context, close } = await open();
      // The server's own address is known only now.
      await page.route('**/v1/chat/completions', async (route) => {
        const response = await route.fetch();
        const body = (await response.text()).replaceAll('OWN', server.url);
        await route.fulfill({ response, body });
      });
      const answered = [];
      page.on('response', (response) => {
        if (response.frame() !== page.mainFrame()) answered.push(response.url());
      });
      await send(page, 'ATTACK');
      await answer(page);
      const frame = await previewFrame(page);
      const { results, total } = await until(() => frame.evaluate(() =>
        window.total && Object.keys(window.results).length === window.total
          ? { results: window.results, total: window.total } : null), 'all attempts');
      // Assigning to top and parent.location throws, or is ignored; what counts is what follows.
      delete results.top;
      delete results.parentAssign;
      assert.ok(total >= 20);
      const done = Object.keys(results).filter((name) => results[name] !== 'failed');
      assert.deepStrictEqual(done, []);
      await new Promise((resolve) => { setTimeout(resolve, 300); });
      assert.deepStrictEqual(evil.seen, []);
      assert.deepStrictEqual(answered, [`${server.url}/preview`]);
      assert.strictEqual(page.url(), `${server.url}/`);
      assert.strictEqual(context.pages().length, 1);
      assert.strictEqual(await page.evaluate(() => window.pwned ?? null), null);
      assert.deepStrictEqual(await context.cookies(), []);
      await isAlive(page);
      await close().catch((error) => assert.match(error.message, /requests to other origins/));
    },

    async 'cannot carry anything away by leaving'() {
      const { page, close } = await open({ allows: /404|frame-src/ });
      await send(page, 'LEAVE');
      await answer(page);
      await new Promise((resolve) => { setTimeout(resolve, 500); });
      assert.deepStrictEqual(evil.seen, []);
      assert.strictEqual(page.url(), `${server.url}/`);
      await isAlive(page);
      await close().catch((error) => assert.match(error.message, /requests to other origins/));
    },

    ...Object.fromEntries(['LOOP', 'FLOOD'].map((word) => [`an endless ${word} harms nobody`,
      async () => {
        const { page, close } = await open();
        await send(page, word);
        await answer(page);
        if (word === 'LOOP') await isAlive(page);  // the other one keeps the browser busy
        await page.waitForSelector('.stuck', { timeout: 15000 });
        assert.strictEqual(await page.locator('.pane iframe').count(), 0);
        await isAlive(page, 5000);
        await page.keyboard.press('Alt+N');
        await send(page, 'SCRIPT');
        await answer(page);
        await until(async () => /oops/.test(await page.locator('.console').innerText()), 'more');
        await close();
      }])),

    // Three attempts: the machine may have had other things to do.
    async 'a game of 10,000 tokens can be played within 11 s'() {
      await server.tell('pace 8 8000');  // 1,000 tokens a second
      let seconds = Infinity;
      for (let attempt = 0; attempt < 3 && seconds >= 11; ++attempt) seconds = await playGame(open);
      assert.ok(seconds < 11, `playable after ${seconds} s`);
      await server.tell('pace 8 2000');
    },

    async 'is shown for older answers on demand'() {
      const { page, close } = await open();
      await send(page, 'SCRIPT');
      await answer(page);
      await page.keyboard.press('Alt+P');
      assert.ok(!await page.locator('.pane').isVisible());
      await page.reload();
      await page.waitForSelector('.run-button');
      assert.ok(!await page.locator('.pane').isVisible());
      await page.click('.run-button');
      await until(async () => /oops/.test(await page.locator('.console').innerText()), 'it runs');
      await close();
    },
  };
}

module.exports = { answers, startEvil, tests };
