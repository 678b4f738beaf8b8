// The chat: streams, Markdown, hostile text, thinking, editing, export.
'use strict';

const assert = require('assert');
const fs = require('fs');
const { markdown, payloads } = require('./answers.js');
const { answer, openPage, send, until } = require('./browser.js');

const answers = [
  { when: 'PAYLOADS', text: `<think>${payloads.join('\n')}</think>${payloads.join('\n\n')}` },
  { when: 'MARKDOWN', text: markdown },
  { when: 'LONG', text: `<think>Hm.</think>${'word '.repeat(4000)}` },
  { when: 'SECOND', text: '<think></think>The second answer.' },
  { when: 'FIRST', text: '<think></think>The first answer.' },
  { when: 'SLOW', text: `<think></think>${'One sentence follows another. '.repeat(40)}` },
];

// server: {url, tell}; real: the url of ultraspeed serve with the bundled model.
function tests({ browser, server, real }) {
  const open = (options) => openPage(browser, server.url, options);
  return {
    async 'chats with the bundled model'() {
      const { page, close } = await openPage(browser, real.url);
      await send(page, 'Tom has 3 apples and buys 4 more. How many has he?');
      const element = await answer(page, 60000);
      assert.ok((await element.innerText()).length > 20);
      const rate = await element.locator('.meter-rate').getAttribute('data-value');
      assert.ok(Number(rate.replace(/\D/g, '')) > 0, rate);
      await close();
    },

    async 'shows Markdown'() {
      const { page, close } = await open();
      await send(page, 'MARKDOWN');
      const element = await answer(page);
      const count = (selector) => element.locator(`.answer > .markdown ${selector}`).count();
      for (const [selector, expected] of Object.entries({ h3: 1, 'p em': 1, 'p strong': 1, del: 1,
        'ol > li': 2, 'ol ul > li': 2, 'ol figure.code': 1, blockquote: 1, 'table tbody tr': 2,
        hr: 1, 'p a': 2, '.tok-keyword': 3, '.tok-string': 2, '.tok-comment': 2 })) {
        assert.strictEqual(await count(selector), expected, selector);
      }
      const text = await element.innerText();
      assert.match(text, /snake_case_words and 2 \* 3 \* 4\./);
      assert.match(text, /a \| b/);
      assert.strictEqual(await element.locator('a').first().getAttribute('rel'),
        'noopener noreferrer nofollow');
      await close();
    },

    // However a text is cut, it ends as the same document.
    async 'shows a stream as the whole'() {
      const { page, close } = await open();
      const differing = await page.evaluate(async ({ texts }) => {
        const { MarkdownView } = await import('/ui/markdown.js');
        const html = (text, sizes) => {
          const view = new MarkdownView();
          for (let at = 0, i = 0; at < text.length; ++i) {
            const size = sizes[i % sizes.length];
            view.push(text.slice(at, at + size));
            at += size;
          }
          view.finish();
          return view.element.innerHTML;
        };
        return texts.filter((text) => [[1], [2, 3], [7], [1, 40]].some((sizes) =>
          html(text, sizes) !== html(text, [text.length])));
      }, { texts: [markdown, payloads.join('\n'), payloads.join('\n\n'), '```js\nopen',
        '- a\n\n- b', '- a\n\nb', '- a\n\n\n1', 'a\nb\n\nc', '# x\n\ny', '```\n``\n```\nend',
        '1. a\n   ```\n   x\n\n   y\n   ```\n2. b', '```\n'.repeat(5), 'a\n```\n```',
        '~~~html\n<p>\n~~~', '`'.repeat(50), '['.repeat(60), '**a *b** c*',
        '|a|b|\n|-|-|\n|c|'] });
      assert.deepStrictEqual(differing, []);
      await close();
    },

    async 'takes time in proportion to a text'() {
      const { page, close } = await open();
      const slow = await page.evaluate(async () => {
        const { MarkdownView } = await import('/ui/markdown.js');
        const bad = [];
        for (const part of ['[', '*', '`', '![](', '_a', '**a ', '<a', '> ', '| a ', '- a\n  ',
          '\\', 'http://', '~~', '](', '```\n']) {
          const begin = performance.now();
          const view = new MarkdownView();
          view.push(part.repeat(20000));
          view.finish();
          const duration = performance.now() - begin;
          if (duration > 2000) bad.push([part, duration]);
        }
        return bad;
      });
      assert.deepStrictEqual(slow, []);
      await close();
    },

    async 'hostile text stays text'() {
      const { page, close } = await open();
      await send(page, `PAYLOADS ${payloads[1]}`);
      const element = await answer(page);
      await element.locator('summary').click();
      const found = await page.evaluate(() => ({
        pwned: window.pwned ?? null,
        elements: document.querySelectorAll('.log script, .log img, .log svg:not(.spark),'
          + '.log style, .log iframe, .log object, .log form, .log input, .log [onclick],'
          + '.log [onerror],'
          + '.log [style*=x]').length,
        links: [...document.querySelectorAll('.log a')].map(({ href }) => href)
          .filter((href) => !/^https?:/.test(href)),
      }));
      assert.deepStrictEqual(found, { pwned: null, elements: 0, links: [] });
      const text = await element.innerText();
      assert.ok(text.includes('<script>window.pwned = 1</script>'));
      assert.ok((await page.locator('.user-text').innerText()).includes(payloads[1]));
      // Also in what is loaded again.
      await page.reload();
      await page.waitForSelector('.message.assistant');
      assert.strictEqual(await page.evaluate(() => window.pwned ?? null), null);
      assert.strictEqual(await page.locator('.log img, .log script').count(), 0);
      await close();
    },

    async 'the policy stops what would get through'() {
      const { page, close } = await open({ allows: /404|violates|Trusted|TrustedHTML/ });
      const outcome = await page.evaluate(async () => {
        const result = {};
        try {
          document.body.innerHTML += '<img src=x onerror="window.pwned = 1">';
          result.html = 'written';
        } catch { result.html = 'refused'; }
        const script = document.createElement('script');
        try {
          script.textContent = 'window.pwned = 2';
          document.body.append(script);
        } catch { /* refused earlier */ }
        // Not in the debugger's own call, which may evaluate.
        await new Promise((resolve) => { setTimeout(() => {
          try {
            result.evaluated = (0, eval)('1');
          } catch { result.evaluated = 'refused'; }
          resolve();
        }); });
        result.pwned = window.pwned ?? null;
        return result;
      });
      assert.deepStrictEqual(outcome, { html: 'refused', evaluated: 'refused', pwned: null });
      await close();
    },

    async 'folds thinking, live numbers beside it'() {
      const { page, close } = await open();
      await server.tell('pace 2 4000');
      await send(page, 'SLOW');
      const last = page.locator('.message.assistant').last();
      const rate = await until(async () => {
        const text = await last.locator('.meter-rate').getAttribute('data-value').catch(() => null);
        return text && Number(text.replace(/\D/g, ''));
      }, 'a live rate');
      assert.ok(rate > 100 && rate < 700, `${rate} tokens/s of 500`);
      const accepted = Number(await last.locator('.meter-accepted').getAttribute('data-value'));
      assert.ok(accepted >= 1.9 && accepted < 2.2, `${accepted} tokens a step of 2`);
      await answer(page);
      await server.tell('pace 8 2000');
      await page.click('button:text("New")');
      await send(page, 'MARKDOWN');
      const element = await answer(page);
      const details = element.locator('details.thinking');
      assert.strictEqual(await details.getAttribute('open'), null);
      assert.match(await details.locator('summary').innerText(), /^Thought for \d/);
      assert.ok(!await details.locator('.markdown').isVisible());
      await details.locator('summary').focus();
      await page.keyboard.press('Enter');
      assert.match(await details.locator('.markdown').innerText(), /First I think about it\./);
      await close();
    },

    async 'stops, says so, and keeps what there is'() {
      const { page, close } = await open();
      await server.tell('pace 2 4000');
      await send(page, 'LONG');
      await page.waitForSelector('.is-running .meter-tokens');
      await page.keyboard.press('Escape');
      const element = await answer(page, 3000);
      assert.match(await element.innerText(), /Stopped\./);
      assert.match(await element.innerText(), /word word/);
      await server.tell('pace 8 2000');
      await close();
    },

    async 'edits and sends again'() {
      const { page, close } = await open();
      await send(page, 'FIRST');
      assert.match(await (await answer(page)).innerText(), /The first answer/);
      await page.focus('textarea[name=message]');
      await page.keyboard.press('ArrowUp');
      const edited = page.locator('textarea[aria-label="Edit your message"]');
      assert.strictEqual(await edited.inputValue(), 'FIRST');
      await edited.fill('SECOND');
      await page.keyboard.press('Enter');
      await until(async () => /The second/.test(await page.locator('.log').innerText()), 'resent');
      await answer(page);
      assert.strictEqual(await page.locator('.message').count(), 2);
      await close();
    },

    async 'exports and survives a reload'() {
      const { page, close } = await open();
      await send(page, 'FIRST');
      await answer(page);
      const saved = async (name) => {
        const [download] = await Promise.all([page.waitForEvent('download'), page.click(name)]);
        return fs.readFileSync(await download.path(), 'utf8');
      };
      const json = JSON.parse(await saved('button[aria-label="Export as JSON"]'));
      assert.strictEqual(json.messages.length, 2);
      assert.strictEqual(json.messages[1].content, 'The first answer.');
      assert.strictEqual(json.messages[1].meta.finish_reason, 'stop');
      assert.match(await saved('button:text("Export")'),
        /## You\n\nFIRST\n\n## tiny-mimo\n\nThe first/);
      await page.reload();
      await until(async () => await page.locator('.message').count() === 2, 'kept');
      await page.click('button:text("New")');
      await page.reload();
      await page.waitForSelector('.welcome');
      await close();
    },

    async 'asks for the key of a server that wants one'() {
      const { page, close } = await open({ allows: /401/ });
      const keys = [];
      await page.route('**/v1/chat/completions', (route) => {
        keys.push(route.request().headers().authorization);
        if (keys.at(-1) === 'Bearer right') return route.fallback();
        return route.fulfill({ status: 401, contentType: 'application/json',
          body: JSON.stringify({ error: { message: 'No.', code: 'invalid_api_key' } }) });
      });
      await send(page, 'FIRST');
      await page.fill('dialog input', 'wrong');
      await page.keyboard.press('Enter');
      assert.match(await (await answer(page)).innerText(), /No\./);
      await page.click('button:text("Again")');
      await page.fill('dialog input', 'right');
      await page.keyboard.press('Enter');
      await until(async () => /The first/.test(await page.locator('.log').innerText()), 'let in');
      assert.deepStrictEqual(keys, [undefined, 'Bearer wrong', 'Bearer wrong', 'Bearer right']);
      const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage },
        { ...sessionStorage }]));
      assert.ok(!stored.includes('right'));
      await close();
    },

    async 'shows what the server refuses'() {
      const { page, close } = await open({ allows: /40[04]/ });
      await page.route('**/v1/chat/completions', (route) => route.fulfill({ status: 429,
        headers: { 'Retry-After': '7' }, contentType: 'application/json',
        body: JSON.stringify({ error: { message: '<b>Full</b>', code: 'queue_full' } }) }),
      { times: 1 });
      await page.evaluate(() => { console.error = () => {}; });
      await send(page, 'FIRST');
      const element = await answer(page);
      assert.match(await element.innerText(), /<b>Full<\/b> Try again in 7 s\./);
      await element.locator('button:text("Again")').click();
      await until(async () => /The first/.test(await page.locator('.log').innerText()), 'again');
      await close().catch((error) => assert.match(error.message, /429/));
    },
  };
}

module.exports = { answers, tests };
