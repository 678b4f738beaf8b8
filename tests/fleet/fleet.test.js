// Three servers of the bundled model behind HAProxy with deploy/fleet/haproxy.cfg: sessions stay
// with their server, a rolling restart under load loses nothing, and what a killed server had under
// way ends with an error that says to try again.
//
// usage: node fleet.test.js ULTRASPEED
'use strict';

const assert = require('assert');
const { spawn } = require('child_process');
const net = require('net');
const path = require('path');
const { model, runTests, startServer } = require('../npm/server.js');

const program = process.argv[2];
const config = path.join(__dirname, '../../deploy/fleet/haproxy.cfg');
const numReplicas = 3;

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function until(what, condition) {
  for (let i = 0; i < 600; i += 1) {
    if (await condition()) return;
    await sleep(50);
  }
  throw new Error(`not within 30 s: ${what}`);
}

function startReplica(port) {
  return startServer(program, ['--port', String(port), '--max-model-len', '4096',
    '--max-sessions', '4', '--drafter', 'none', '--drain-delay', '2']);
}

async function startFleet() {
  const ports = await Promise.all([...Array(numReplicas + 1)].map(freePort));
  const replicas = [];
  for (const port of ports.slice(1)) replicas.push(await startReplica(port));
  const names = Object.fromEntries(
    ports.slice(1).map((port, i) => [`REPLICA_${i + 1}`, `127.0.0.1:${port}`]));
  const env = {
    ...process.env, ...names, BIND: `127.0.0.1:${ports[0]}`, PATH: `${process.env.PATH}:/usr/sbin`,
  };
  const stdio = ['ignore', 'ignore', 'pipe'];
  const proxy = spawn('haproxy', ['-db', '-f', config], { env, stdio });
  process.on('exit', () => proxy.kill('SIGKILL')); // of a test that failed
  let log = '';
  proxy.stderr.on('data', (data) => { log = (log + data).slice(-4000); });
  const url = `http://127.0.0.1:${ports[0]}`;
  await until('the proxy answers', async () => {
    try {
      return (await fetch(`${url}/health/ready`)).status === 200;
    } catch {
      return false;
    }
  });
  const stop = async () => {
    proxy.kill('SIGKILL');
    await Promise.all(replicas.map((replica) => replica.stop()));
  };
  return {
    url, replicas, ports: ports.slice(1), stop, log: () => log,
  };
}

// What a client sees of one request: {status, headers, json}, of a stream {status, isWhole}, and of
// a connection that ended without an answer {error}.
async function ask(url, messages, { session, stream = false, maxTokens = 8 }) {
  let response;
  try {
    response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'x-session-affinity': session },
      body: JSON.stringify({
        model, messages, stream, max_tokens: maxTokens, temperature: 0, ignore_eos: true,
      }),
    });
  } catch (error) {
    return { error: `${error.message}: ${error.cause?.message}` };
  }
  if (!stream || response.status !== 200) {
    return { status: response.status, headers: response.headers, json: await response.json() };
  }
  let text = '';
  try {
    text = await response.text();
  } catch {
    // cut off
  }
  return { status: response.status, isWhole: text.trimEnd().endsWith('data: [DONE]') };
}

// The share of prompts' tokens that caches held, of sessions whose turns come in turns.
async function cachedShare(url, name) {
  const sessions = [...Array(6)].map((_, i) => ({
    session: `${name}-${i}`,
    messages: [
      { role: 'user', content: `Session ${name} ${i}: ${'count the apples. '.repeat(12)}` }],
  }));
  let [prompt, cached] = [0, 0];
  for (let turn = 0; turn < 3; turn += 1) {
    for (const { session, messages } of sessions) {
      const { status, json } = await ask(url, messages, { session });
      assert.strictEqual(status, 200, JSON.stringify(json));
      prompt += json.usage.prompt_tokens;
      cached += json.usage.prompt_tokens_details.cached_tokens;
      messages.push(json.choices[0].message, { role: 'user', content: `Turn ${turn}, go on.` });
    }
  }
  return cached / prompt;
}

// Asks on and on until stop() gives all answers.
function load(url, numClients) {
  let isOver = false;
  const answers = [];
  const clients = [...Array(numClients)].map(async (_, client) => {
    for (let i = 0; !isOver; i += 1) {
      const session = `load-${client}-${i % 4}`;
      const messages = [{ role: 'user', content: `Client ${client}, question ${i}.` }];
      answers.push(await ask(url, messages, { session, stream: i % 2 === 0, maxTokens: 24 }));
    }
  });
  return {
    answers,
    stop: async () => {
      isOver = true;
      await Promise.all(clients);
      return answers;
    },
  };
}

const isComplete = ({ status, isWhole = true }) => status === 200 && isWhole;

async function sessionsStay(fleet) {
  const alone = await cachedShare(fleet.replicas[0].url, 'alone');
  const together = await cachedShare(fleet.url, 'together');
  console.log(`cached: ${(100 * alone).toFixed(1)} % by one server, ${
    (100 * together).toFixed(1)} % by ${numReplicas} behind the proxy`);
  assert.ok(alone > 0.3, 'the cache holds little');
  assert.ok(together >= 0.95 * alone);
}

async function restartsLoseNothing(fleet) {
  const running = load(fleet.url, 6);
  for (let i = 0; i < numReplicas; i += 1) {
    await fleet.replicas[i].stop();
    fleet.replicas[i] = await startReplica(fleet.ports[i]);
    await sleep(1500); // the proxy looks twice a second
  }
  const answers = await running.stop();
  const lost = answers.filter((answer) => !isComplete(answer));
  console.log(`${answers.length} requests during ${numReplicas} restarts, ${lost.length} lost`);
  assert.ok(answers.length > 12, 'hardly any load');
  assert.deepStrictEqual(lost.map((answer) => answer.json ?? answer), []);
}

async function killsAreErrorsToRetry(fleet) {
  const running = load(fleet.url, 6);
  await sleep(1000);
  fleet.replicas[1].kill();
  await sleep(3000);
  const answers = await running.stop();
  const failed = answers.filter((answer) => !isComplete(answer));
  console.log(`${answers.length} requests around a kill, ${failed.length} failed`);
  for (const { status, headers, json, error } of failed) {
    if (error) continue; // HAProxy closes a connection that was not on its first request
    if (status === 200) continue; // a stream that had begun
    assert.ok(status === 502 || status === 503, `status ${status}`);
    assert.ok(Number(headers.get('retry-after')) > 0);
    assert.ok(json.error.message.includes('again'), JSON.stringify(json));
  }
  assert.ok(failed.length <= 6, 'more than one for each client');
  for (let i = 0; i < 6; i += 1) {
    const messages = [{ role: 'user', content: 'Hi' }];
    assert.ok(isComplete(await ask(fleet.url, messages, { session: `${i}` })));
  }
  fleet.replicas[1] = await startReplica(fleet.ports[1]);
}

async function main() {
  const fleet = await startFleet();
  const passed = await runTests('fleet', {
    'sessions stay with their server': () => sessionsStay(fleet),
    'a rolling restart loses nothing': () => restartsLoseNothing(fleet),
    'a killed server ends in errors to retry': () => killsAreErrorsToRetry(fleet),
  });
  await fleet.stop();
  if (!passed) console.error(`HAProxy said:\n${fleet.log()}`);
  process.exit(passed ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
