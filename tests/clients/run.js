// Sends real clients to ultraspeed serve: each is told to write a file, which the server's forced
// answers (docs/serving.md, "Answers written beforehand") do with the client's own tool. Checks
// that the file is there, that the last answer is shown, and that no request was refused; prints
// the rows of docs/clients.md.
//
// usage: node run.js ULTRASPEED NODE_MODULES [CLIENT...]
'use strict';

const { execFileSync, spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { model, startServer } = require('../npm/server.js');
const { clients, contextSize } = require('./clients.js');

const [program, modules, ...chosen] = process.argv.slice(2);
const content = 'forty-two';
const lastWords = 'The file answer.txt is written.';
const clientTimeoutMs = 900000;

// As the model's template has calls.
function callText({ name, input }, file) {
  const parameters = Object.entries(input(file, content))
    .map(([key, value]) => `<parameter=${key}>${value}</parameter>\n`).join('');
  return `<tool_call>\n<function=${name}>\n${parameters}</function>\n</tool_call>`;
}

// The turn behind the tool's result, the first turn, and the side requests (a title, say).
function script(tool, file) {
  return [
    { when: '<|im_start|>tool\n', text: `<think>It worked.</think>${lastWords}` },
    {
      when: `<name>${tool.name}</name>`,
      text: `<think>A file is wanted.</think>I write it.${callText(tool, file)}`,
    },
    { text: 'A file' },
  ].map((line) => JSON.stringify(line)).join('\n');
}

function runClient([command, ...options], { work, env }) {
  const client = spawn(command, options, { cwd: work, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [output, errors] = ['', ''];
  client.stdout.on('data', (data) => { output += data; });
  client.stderr.on('data', (data) => { errors += data; });
  const timer = setTimeout(() => client.kill('SIGKILL'), clientTimeoutMs);
  return new Promise((resolve, reject) => {
    client.on('error', reject);
    client.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ end: signal ?? code, output, errors });
    });
  });
}

// The server's log lines as {route, status, prompt}.
function loggedRequests(log) {
  const line = /id=\S+ (\S+ \S+) status=(\S+)(?: prompt=(\d+))?/g;
  return [...log.matchAll(line)].map(([, route, status, prompt]) => (
    { route, status: Number(status), prompt: Number(prompt ?? 0) }));
}

function problems(client, file, finished, requests) {
  const found = [];
  if (finished.end !== 0) found.push(`it ended with ${finished.end}`);
  const written = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : '(no file)';
  if (written !== content) found.push(`the file has: ${written}`);
  if (!finished.output.includes(lastWords)) found.push('the last answer is not shown');
  const refused = requests.filter(({ status }) => status !== 200 && status !== 101);
  if (refused.length !== (client.refusals ?? 0)) {
    found.push(...refused.map(({ route, status }) => `${route} got ${status}`));
  }
  const turns = requests.filter(({ route }) => route === client.route).length;
  if (turns < 2) found.push(`${turns} requests to ${client.route}, expected at least 2`);
  return found;
}

// "2 x POST /v1/messages (9,120 to 9,300 tokens)"
function describeRequests(requests) {
  const routes = [...new Set(requests.map(({ route }) => route))];
  return routes.map((route) => {
    const sizes = requests.filter((request) => request.route === route)
      .map(({ prompt }) => prompt);
    const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
    const tokens = most === 0 ? '' : ` (${least} to ${most} tokens)`;
    return `${sizes.length} x ${route}${tokens}`;
  }).join(', ');
}

function packageVersion(name) {
  return JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'), 'utf8')).version;
}

async function test(name, client, folder) {
  const [home, work] = ['home', 'work'].map((sub) => path.join(folder, sub));
  for (const sub of [home, work]) fs.mkdirSync(sub);
  const file = path.join(work, 'answer.txt');
  const scriptFile = path.join(folder, 'script.jsonl');
  fs.writeFileSync(scriptFile, script(client.tool, file));
  const { url, log, stop } = await startServer(
    program, ['--max-model-len', String(contextSize), '--force-text', scriptFile]);
  const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
  const connect = (agent) => execFileSync(
    program, ['connect', agent, '--url', url, '--model', model], options);
  const setting = {
    home, work, url, model, modules, connect,
    task: `Write the word ${content} into the file ${file}.`,
  };
  client.configure(setting);
  const env = { PATH: process.env.PATH, HOME: home, TMPDIR: folder, ...client.env(setting) };
  const begin = Date.now();
  const finished = await runClient(client.command(setting), { work, env });
  const seconds = ((Date.now() - begin) / 1000).toFixed(0);
  await stop();
  const requests = loggedRequests(log());
  const found = problems(client, file, finished, requests);
  console.log(`| ${name} | ${packageVersion(client.package)} | ${describeRequests(requests)} | \`${
    client.tool.name}\` | ${found.length === 0 ? 'ok' : `FAILED: ${found.join('; ')}`} | ${
    seconds} s |`);
  if (found.length === 0) return true;
  console.error(`${name}:\n${finished.output}\n${finished.errors}\nthe server:\n${log()}`);
  return false;
}

async function main() {
  const unknown = chosen.filter((name) => !(name in clients));
  if (unknown.length > 0) {
    throw new Error(
      `no client ${unknown.join(', ')}; there are: ${Object.keys(clients).join(', ')}`);
  }
  const names = chosen.length > 0 ? chosen : Object.keys(clients);
  console.log('| client | version | requests | tool | result | time |\n|---|---|---|---|---|---|');
  let failures = 0;
  for (const name of names) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ultraspeed-client-'));
    if (!await test(name, clients[name], folder)) failures += 1;
    fs.rmSync(folder, { recursive: true, force: true });
  }
  console.log(`clients: ${names.length - failures} passed, ${failures} failed`);
  process.exit(failures === 0 ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
