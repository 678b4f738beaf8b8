// ultraspeed serve with the bundled model, for tests.
'use strict';

const { spawn } = require('child_process');
const path = require('path');

const repository = path.join(__dirname, '../..');
const model = 'tiny-mimo';

// Starts it, without --port on a free one; resolves to {url, log(), stop(), kill()}.
function startServer(program, options = []) {
  const port = options.includes('--port') ? [] : ['--port', '0'];
  const server = spawn(program, ['serve', '--model', `models/${model}`, ...port, ...options],
    { cwd: repository, stdio: ['ignore', 'ignore', 'pipe'] });
  process.on('exit', () => server.kill('SIGKILL')); // of a test that failed
  let log = '';
  const stop = async () => {
    server.removeAllListeners('exit');
    server.kill('SIGTERM');
    await new Promise((resolve) => { server.on('exit', resolve); });
  };
  const kill = () => {
    server.removeAllListeners('exit');
    server.kill('SIGKILL');
  };
  return new Promise((resolve, reject) => {
    server.on('exit', (code) => reject(new Error(`the server ended with ${code}:\n${log}`)));
    server.stderr.on('data', (data) => {
      log += data;
      const match = /listening on (http:\S+)/.exec(log);
      if (match) {
        resolve({
          url: match[1], log: () => log, stop, kill,
        });
      }
    });
  });
}

// Runs {name: test} one after the other, prints what failed, and ends the process.
async function runTests(suite, tests) {
  let failures = 0;
  for (const [name, test] of Object.entries(tests)) {
    const begin = Date.now();
    try {
      await test();
      console.log(`ok ${name} (${((Date.now() - begin) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failures += 1;
      console.error(`FAILED ${name}: ${error.stack}`);
    }
  }
  console.log(`${suite}: ${Object.keys(tests).length - failures} passed, ${failures} failed`);
  return failures === 0;
}

module.exports = { model, startServer, runTests };
