// The page in a browser: chat, live preview, Best of N, keys, and the offer's views.
//
// usage: node page.test.js PAGE_SERVER ULTRASPEED [PATTERN OF TESTS' NAMES]
'use strict';

const chat = require('./chat_tests.js');
const keyboard = require('./keyboard_tests.js');
const offers = require('./offer_tests.js');
const preview = require('./preview_tests.js');
const { launch, startPageServer } = require('./browser.js');
const { runTests, startServer } = require('../npm/server.js');

const [pageServer, program, part = ''] = process.argv.slice(2);

async function main() {
  const evil = await preview.startEvil();
  const answers = [...chat.answers, ...keyboard.answers, ...preview.answers(evil.url)];
  const [browser, server, real, offer] = await Promise.all([launch(),
    startPageServer(pageServer, answers), startServer(program), offers.startOffer(pageServer)]);
  const given = { browser, server, real, evil, offer };
  const all = Object.entries({ ...chat.tests(given), ...keyboard.tests(given),
    ...preview.tests(given), ...offers.tests(given) });
  const chosen = all.filter(([name]) => new RegExp(part).test(name)).map(([name, test]) => [name,
    async () => {
      await server.tell('pace 8 2000');
      await test();
    }]);
  const passed = await runTests('page', Object.fromEntries(chosen));
  await browser.close();
  await Promise.all([server.stop(), real.stop(), offer.stop()]);
  evil.close();
  process.exit(passed ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
