// Best of N, and everything by keyboard alone.
'use strict';

const assert = require('assert');
const { html } = require('./answers.js');
const { answer, openPage, picture, previewFrame, send, until } = require('./browser.js');

const answers = [
  { when: 'CANDIDATES', text: `<think>Hm.</think>${'A candidate says this. '.repeat(30)}` },
  { when: 'PAGES', text: `<think></think>${html(['<!doctype html>', '<style>',
    'body { margin: 0; font: 17px system-ui, sans-serif; color: #22303c; }',
    'header { padding: 26px; color: #fff; background: #1d5fa8; }',
    'ul { list-style: none; display: flex; gap: 10px; padding: 0 26px; }',
    'li { flex: 1; padding: 16px; border-radius: 10px; background: #eef3f6; }', '</style>',
    '<header><h1>Harbour</h1><p>Boats for an afternoon</p></header>',
    '<ul><li>Dinghy</li><li>Ketch</li><li id="end">Cutter</li></ul>'])}` },
];

function tests({ browser, server }) {
  const open = (options) => openPage(browser, server.url, options);
  const compare = async (page, question, count) => {
    await page.waitForSelector('.welcome');
    await page.keyboard.press('Alt+2');
    await page.waitForSelector('.compare');
    await page.selectOption('select[aria-label="How many"]', String(count));
    await page.fill('textarea[aria-label=Question]', question);
    await page.keyboard.press('Enter');
  };
  const areComplete = (page, count) => until(async () =>
    await page.locator('.card-state:text("complete")').count() === count, 'all candidates', 10000);
  return {
    async 'streams candidates side by side, one is picked'() {
      const { page, close } = await open();
      await server.tell('pace 2 4000');
      await compare(page, 'CANDIDATES', 3);
      await until(async () => await page.locator('.card-state:text("writing")').count() === 3,
        'three at once');
      await server.tell('pace 8 2000');
      await areComplete(page, 3);
      assert.match(await page.locator('.composer .meter-tokens').innerText(), /\d+ tokens/);
      await page.locator('.card').first().locator('summary').focus();
      await page.keyboard.press('2');
      await page.waitForSelector('.chat');
      assert.strictEqual(await page.locator('.message').count(), 2);
      assert.match(await page.locator('.message.assistant').innerText(), /A candidate says this/);
      await close();
    },

    async 'previews candidates side by side'() {
      const { page, close } = await open();
      await compare(page, 'PAGES', 4);
      await areComplete(page, 4);
      for (const frame of await page.locator('.card iframe').all()) {
        await (await (await frame.elementHandle()).contentFrame()).waitForSelector('#end');
      }
      assert.strictEqual(await page.locator('.card iframe').count(), 4);
      await picture(page, 'page_best_of');
      await page.locator('.card').first().locator('button:text("Text")').click();
      assert.ok(await page.locator('.card .code').first().isVisible());
      await page.keyboard.press('Escape');
      await close();
    },

    async 'stops all candidates at once'() {
      const { page, close } = await open();
      await server.tell('pace 1 8000');
      await compare(page, 'CANDIDATES', 4);
      await page.waitForSelector('.card-state:text("writing")');
      await page.keyboard.press('Escape');
      await until(async () => await page.locator('.card-state:text("stopped")').count() === 4,
        'all have stopped');
      await server.tell('pace 8 2000');
      await close();
    },

    async 'is used by keys alone'() {
      const { page, close } = await open();
      const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label')
        ?? document.activeElement.getAttribute('name'));
      await page.waitForSelector('.welcome');
      assert.strictEqual(await focused(), 'Message');
      await page.keyboard.type('PAGES');
      await page.keyboard.press('Shift+Enter');
      await page.keyboard.type('more');
      assert.strictEqual(await page.inputValue('textarea[name=message]'), 'PAGES\nmore');
      await page.keyboard.press('Enter');
      await answer(page);
      await (await previewFrame(page)).waitForSelector('#end');
      await page.keyboard.press('Alt+P');
      assert.ok(!await page.locator('.pane').isVisible());
      await page.keyboard.press('Alt+P');
      assert.ok(await page.locator('.pane').isVisible());
      await page.locator('.log').focus();
      await page.keyboard.press('/');
      assert.strictEqual(await focused(), 'Message');
      assert.strictEqual(await page.inputValue('textarea[name=message]'), '');
      await page.locator('.log').focus();
      await page.keyboard.press('?');
      assert.match(await page.locator('dialog').innerText(), /Shift\s*Enter\s*A new line/);
      await page.keyboard.press('Escape');
      await page.waitForSelector('dialog', { state: 'detached' });
      await page.keyboard.press('Control+K');
      await page.keyboard.type('best');
      assert.strictEqual(await page.locator('[role=option]').count(), 1);
      await page.keyboard.press('Enter');
      await page.waitForSelector('.compare');
      await page.keyboard.press('Alt+1');
      await page.waitForSelector('.chat');
      await page.keyboard.press('Alt+N');
      await page.waitForSelector('.welcome');
      await close();
    },

    async 'keeps the focus in order and in sight'() {
      const { page, close } = await open();
      await page.waitForSelector('.welcome');
      await page.evaluate(() => document.activeElement.blur());
      const seen = [];
      for (let i = 0; i < 40; ++i) {
        await page.keyboard.press('Tab');
        seen.push(await page.evaluate(() => {
          const element = document.activeElement;
          if (element === document.body) return '';
          const style = getComputedStyle(element);
          const isMarked = style.outlineStyle !== 'none' || element.matches('.composer textarea');
          const name = element.getAttribute('aria-label') ?? element.textContent.trim();
          return isMarked && name ? name : `no outline or name: ${element.outerHTML}`;
        }));
      }
      assert.deepStrictEqual(seen.filter((name) => name.startsWith('no ')), []);
      const order = ['Skip to the content', 'UltraSpeed', 'Chat', 'Best of N', 'Message', 'Send'];
      const begin = seen.indexOf(order[0]);
      const places = order.map((name) => seen.indexOf(name, begin));
      assert.ok(places.every((place, i) => place >= 0 && (i === 0 || place > places[i - 1])),
        seen.join(' | '));
      await close();
    },

    async 'has contrast in light and dark, and names for all'() {
      for (const colorScheme of ['light', 'dark']) {
        const { page, close } = await open({ colorScheme, reducedMotion: 'reduce' });
        await send(page, 'PAGES');
        await answer(page);
        const faults = await page.evaluate(() => {
          const rgb = (text) => text.match(/[\d.]+/g).map(Number);
          const light = (text) => {
            const [r, g, b] = rgb(text).map((value) => {
              const part = value / 255;
              return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = (element) => {
            for (let at = element; at; at = at.parentElement) {
              const color = getComputedStyle(at).backgroundColor;
              if (rgb(color)[3] !== 0) return color;
            }
            return 'rgb(255, 255, 255)';
          };
          const faults = [];
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const element = walker.currentNode.parentElement;
            if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
            const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (contrast < 4.5) faults.push([contrast, walker.currentNode.textContent]);
          }
          for (const control of document.querySelectorAll('button, input, textarea, select, a')) {
            const name = control.getAttribute('aria-label') ?? control.textContent.trim();
            if (!name && !control.closest('label')) faults.push(control.outerHTML);
          }
          const running = document.getAnimations().length;
          return running > 0 ? [...faults, `${running} animations`] : faults;
        });
        assert.deepStrictEqual(faults, []);
        if (colorScheme === 'dark') await picture(page, 'page_dark');
        await close();
      }
    },
  };
}

module.exports = { answers, tests };
