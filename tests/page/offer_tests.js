// The offer in the page, at times that the test sets: who may do what when, the chat's queue, keys,
// usage and administration.
'use strict';

const assert = require('assert');
const fs = require('fs');
const { payloads } = require('./answers.js');
const { answer, openPage, picture, send, startPageServer, until } = require('./browser.js');

const config = `
[access]
database = "access.db"
time_zone = "Asia/Shanghai"
first_day = 2026-06-09
last_day = 2026-06-23
password_passes = 1
password_memory_bytes = 8192
applications_per_address_and_hour = 1000
applications_per_minute = 1000
[chat]
num_slots = 1
`;
const answers = [{ text: '<think></think>An answer in the session.' }];
const kPassword = 'correct horse battery';
const kBegin = Date.parse('2026-06-08T16:00:00Z') / 1000;  // 9 June at +08:00
const kEnd = Date.parse('2026-06-23T16:00:00Z') / 1000;    // 24 June at +08:00

const startOffer = (program) => startPageServer(program, answers, config);

function tests({ browser, offer }) {
  const { url } = offer;
  // A page whose clock is the server's; close() leaves no place in the queue.
  const open = async (time, options = {}) => {
    await offer.tell(`clock ${time}`);
    const opened = await openPage(browser, url, { ...options,
      prepare: (page) => page.clock.install({ time: time * 1000 }) });
    await opened.page.waitForSelector('.composer');
    return opened;
  };
  const advance = async (pages, seconds) => {
    await offer.tell(`advance ${seconds}`);
    for (const page of pages) await page.clock.fastForward(seconds * 1000);
  };
  // The page asks for its place every 10 seconds.
  const ask = (pages) => advance(pages, 11);
  const go = async (page, path, selector) => {
    await page.evaluate((hash) => { location.hash = hash; }, `#/${path}`);
    await page.waitForSelector(selector);
  };
  const logIn = async (page, name, password = kPassword) => {
    await go(page, 'account', 'input[type=password]');
    await page.fill('input[name=name]', name);
    await page.fill('input[name=password]', password);
    await page.keyboard.press('Enter');
  };
  const apply = async (page, name, statement = 'I want to try it.') => {
    await go(page, 'application', 'textarea[name=statement]');
    await page.fill('input[name=name]', name);
    assert.equal(await page.getAttribute('input[name=password]', 'minlength'), '12');
    await page.fill('input[name=password]', kPassword);
    await page.fill('textarea[name=statement]', statement);
    await page.click('button:text("Apply")');
    await page.waitForSelector('.state-pending');
  };
  const decide = async (decision, name, time) => {
    const { page, close } = await open(time);
    await logIn(page, 'root');
    await page.waitForSelector('.tabs');
    const card = page.locator(`[aria-label="Application of ${name}"]`);
    await card.locator('input').fill(`<b>${decision}</b>`);
    await card.locator(`button:text("${decision}")`).click();
    await card.waitFor({ state: 'detached' });
    await close();
  };
  let numUsers = 0;
  // A page of a new user who was approved.
  const openUser = async (time, options) => {
    const name = `user-${++numUsers}`;
    const opened = await open(time, options);
    await apply(opened.page, name);
    await decide('Approve', name, time);
    await opened.page.reload();
    await go(opened.page, 'chat', '.queue:has-text("entries left")');
    return { ...opened, name };
  };
  const queue = (page) => page.locator('.queue').innerText();
  const shows = (page, pattern) => until(async () => pattern.test(await queue(page)),
    `${pattern} in the queue's bar`).catch(async (error) => {
    throw new Error(`${error.message}; it shows: ${await queue(page)}`);
  });
  const join = (page) => page.click('button:text("Join the queue")');
  const leave = (page) => page.click('.queue button.quiet');

  return {
    async 'offers nothing to strangers but a form'() {
      const { page, close } = await open(kBegin + 3600, { allows: /40[13]/ });
      assert.match(await queue(page), /Log in to chat, or apply/);
      assert.ok(await page.locator('button:text("Send")').isDisabled());
      assert.deepStrictEqual(await page.locator('#navigation a').allInnerTexts(),
        ['Chat', 'Best of N', 'Application', 'Log in']);
      await logIn(page, 'nobody', 'wrong password');
      await until(async () => /name.*password/i.test(
        await page.locator('.problem').innerText()), 'the refusal');
      await picture(page, 'page_login');
      await go(page, 'admin', '.composer');  // not offered: the chat
      await close();
    },

    async 'an application, its decision, and hostile words in it'() {
      const { page, close } = await open(kBegin + 3600);
      await apply(page, 'applicant', payloads.slice(0, 6).join('\n'));
      assert.match(await page.locator('.sheet').innerText(),
        /2026-06-09 to 2026-06-23, whole days in Asia\/Shanghai\. It is open\./);
      assert.match(await page.locator('.facts').innerText(), /waits for a decision/);
      await picture(page, 'page_application');
      assert.ok((await page.locator('.facts').innerText()).includes(payloads[0]));
      await decide('Decline', 'applicant', kBegin + 3600);
      await page.reload();
      await page.waitForSelector('.state-declined');
      assert.match(await page.locator('.facts').innerText(), /<b>Decline<\/b>/);
      await go(page, 'chat', '.queue');
      assert.match(await queue(page), /declined/i);
      assert.strictEqual(await page.evaluate(() => window.pwned ?? null), null);
      await close();
      const admin = await open(kBegin + 3600);
      await logIn(admin.page, 'root');
      await admin.page.waitForSelector('.tabs');
      await admin.page.selectOption('select[aria-label=State]', 'declined');
      const card = admin.page.locator('[aria-label="Application of applicant"]');
      await card.waitFor();
      assert.ok((await card.innerText()).includes(payloads[1]));
      await picture(admin.page, 'page_administration');
      await go(admin.page, 'admin/audit', 'caption:text("Audit log")');
      assert.match(await admin.page.locator('table').innerText(), /root.*applicant/s);
      assert.strictEqual(await admin.page.evaluate(() => window.pwned ?? null), null);
      await admin.close();
    },

    async 'a session of 30 minutes, with a warning'() {
      const { page, close } = await openUser(kBegin + 7200);
      await join(page);
      await shows(page, /Session: (30:00|29:5\d) left/);
      assert.match(await queue(page), /9 of 10 entries left today/);
      await send(page, 'Hello');
      assert.match(await (await answer(page)).innerText(), /An answer in the session/);
      for (let minute = 4; minute < 28; minute += 4) {
        await advance([page], 240);
        await send(page, `Message at ${minute}`);
        await answer(page);
      }
      assert.doesNotMatch(await queue(page), /ends soon/);
      await advance([page], 240);
      await send(page, 'Late');
      await answer(page);
      await shows(page, /ends soon/);
      assert.strictEqual(await page.locator('.queue .warning').getAttribute('role'), 'alert');
      await picture(page, 'page_queue');
      await advance([page], 125);
      await shows(page, /The last session ended: .*9 of 10 entries left/s);
      assert.ok(await page.locator('button:text("Send")').isDisabled());
      assert.ok(await page.locator('.message').count() > 10, 'the conversation stays');
      await close();
    },

    async '5 minutes of silence end it'() {
      const { page, close } = await openUser(kBegin + 10800);
      await join(page);
      await shows(page, /Session: /);
      await advance([page], 200);
      await shows(page, /without a message.*because nothing is written/s);
      await advance([page], 90);
      await shows(page, /Session: 0:\d\d left without a message/);
      await advance([page], 15);
      await shows(page, /The last session ended/);
      await close();
    },

    async 'the eleventh entry of the day is refused, the next day gives ten'() {
      const evening = kBegin + 23 * 3600;
      const { page, close } = await openUser(evening, { timezoneId: 'America/New_York' });
      for (let left = 9; left >= 0; --left) {
        await join(page);
        await shows(page, new RegExp(`Session: .*\\n?.*${left} of 10 entries`, 's'));
        await leave(page);
        await shows(page, new RegExp(`${left} of 10 entries left today\\.`));
      }
      assert.ok(await page.locator('button:text("Join the queue")').isDisabled());
      await advance([page], 3600);  // midnight at +08:00, 16:00 in UTC
      await shows(page, /10 of 10 entries left today\./);
      assert.ok(await page.locator('button:text("Join the queue")').isEnabled());
      await close();
    },

    async 'who waits sees the position; two tabs have one place'() {
      const first = await openUser(kBegin + 30 * 3600);
      const second = await openUser(kBegin + 30 * 3600);
      await join(first.page);
      await shows(first.page, /Session: /);
      await join(second.page);
      await shows(second.page, /Position 1 in the queue, about \d+:\d\d to wait/);
      assert.ok(await second.page.locator('button:text("Send")').isDisabled());
      const tab = await second.context.newPage();
      await tab.clock.install({ time: await second.page.evaluate(() => Date.now()) });
      await tab.goto(url);
      await tab.waitForSelector('.queue:has-text("Position 1")');
      await leave(first.page);
      await ask([tab, second.page]);
      await shows(second.page, /Session: .*9 of 10 entries/s);
      await shows(tab, /Session: .*9 of 10 entries/s);
      await leave(tab);
      await ask([tab, second.page]);
      await shows(second.page, /The last session ended|entries left today/);
      await first.close();
      await second.close();
    },

    async 'another account in the same tab finds nothing'() {
      const { page, close } = await openUser(kBegin + 40 * 3600);
      await join(page);
      await shows(page, /Session: /);
      await send(page, 'A secret question');
      await answer(page);
      await leave(page);
      await go(page, 'account', 'button:text("Log out")');
      await page.click('button:text("Log out")');
      await page.waitForSelector('.queue:has-text("Log in to chat")');
      assert.strictEqual(await page.locator('.message').count(), 0);
      await logIn(page, 'root');
      await page.waitForSelector('.tabs');
      await go(page, 'chat', '.queue');
      assert.strictEqual(await page.locator('.message').count(), 0);
      const stored = await page.evaluate(() => sessionStorage.getItem('ultraspeed.conversation'));
      assert.doesNotMatch(stored ?? '', /secret/);
      await close();
    },

    async 'keys are shown once, work, and are revoked; usage is plotted'() {
      const { page, close } = await openUser(kBegin + 43 * 3600,
        { timezoneId: 'Pacific/Kiritimati' });
      await go(page, 'keys', 'h1:text("Keys")');
      await page.fill('input[name=name]', 'my-key');
      await page.keyboard.press('Enter');
      const secret = await page.locator('.secret').innerText();
      assert.match(secret, /^us-/);
      await page.keyboard.press('Escape');
      await page.waitForSelector('td:text("my-key")');
      await picture(page, 'page_keys');
      assert.ok(!(await page.content()).includes(secret));
      const complete = (model) => fetch(`${url}/v1/chat/completions`, { method: 'POST',
        headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hi' }] }) });
      for (const model of ['tiny-mimo', 'tiny-mimo-ultraspeed', 'tiny-mimo-ultraspeed']) {
        assert.strictEqual((await complete(model)).status, 200, model);
      }
      await until(async () => {
        await go(page, 'keys', 'h1:text("Keys")');
        await go(page, 'usage', '.tiles');
        return /^3\nrequests/.test(await page.locator('.tile').first().innerText());
      }, 'three requests in the ledger');
      assert.ok(await page.locator('.plot rect').count() >= 4);
      assert.match(await page.locator('tbody').last().innerText(),
        /UltraSpeed.*2.*\n.*Standard.*1/s);
      assert.strictEqual(await page.locator('input[type=date]').last().inputValue(),
        '2026-06-10');  // where the trial is; in the browser's place it is the 11th
      await picture(page, 'page_usage');
      const [download] = await Promise.all([page.waitForEvent('download'),
        page.click('a:text("CSV")')]);
      const lines = fs.readFileSync(await download.path(), 'utf8').trim().split('\n');
      assert.strictEqual(lines.length, 4);
      await go(page, 'keys', 'button[aria-label="Revoke my-key"]');
      page.once('dialog', (dialog) => dialog.accept());
      await page.click('button[aria-label="Revoke my-key"]');
      await page.waitForSelector('.state-revoked');
      assert.strictEqual((await complete('tiny-mimo')).status, 401);
      await close();
    },

    async 'an administrator makes keys for others and sees all usage'() {
      const { page, close } = await open(kBegin + 60 * 3600);
      await logIn(page, 'root');
      await page.waitForSelector('.tabs');
      await go(page, 'admin/keys', 'input[name=account]');
      await page.fill('input[name=account]', 'root');
      await page.fill('input[name=name]', 'plan');
      await page.selectOption('select[name=kind]', 'token-plan');
      await page.fill('input[name=plan_tokens]', '1000');
      await page.keyboard.press('Enter');
      const secret = await page.locator('.secret').innerText();
      assert.match(secret, /^tp-/);
      await page.keyboard.press('Escape');
      assert.match(await page.locator('tr:has-text("plan")').innerText(),
        /Token Plan.*1,000 tokens/s);
      const refused = await fetch(`${url}/v1/chat/completions`, { method: 'POST',
        headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({ model: 'tiny-mimo-ultraspeed',
          messages: [{ role: 'user', content: 'Hi' }] }) });
      assert.strictEqual(refused.status, 403);
      await go(page, 'admin/totals', '.tiles');
      assert.match(await page.locator('table').innerText(), /user-\d/);
      await close();
    },

    // The last one: what the clock has passed does not come again.
    async 'the window opens and closes at its own midnight'() {
      const { page, close, name } = await openUser(kBegin + 60);
      const standing = async (time) => {
        await offer.tell(`clock ${time}`);
        await page.reload();
        await page.waitForSelector('#navigation a');
        if (/Log in/.test(await page.locator('#navigation').innerText())) {
          await logIn(page, name);
          await page.waitForSelector('.queue:not(:has-text("Log in"))');
        }
        await go(page, 'application', '.standing');
        return `${await page.locator('.standing').innerText()} ${
          await page.locator('.sheet p').first().innerText()}`;
      };
      assert.match(await standing(kBegin - 2), /whole days in Asia\/Shanghai\. It has not begun\./);
      await go(page, 'chat', '.queue');
      assert.ok(await page.locator('button:text("Send")').isDisabled());
      assert.match(await standing(kBegin), /It is open\./);
      await go(page, 'chat', 'button:text("Join the queue")');
      assert.match(await standing(kEnd - 5), /It is open\./);
      assert.match(await standing(kEnd), /It has ended\./);
      await go(page, 'chat', '.queue');
      assert.match(await queue(page), /over|ended/i);
      await close();
    },
  };
}

module.exports = { startOffer, tests };
