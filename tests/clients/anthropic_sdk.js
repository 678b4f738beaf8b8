// A round trip with a tool by the npm package "@anthropic-ai/sdk", streamed and not: does as `task`
// says with the tool write_file, and prints the answer.
//
// usage: SERVER_URL=... MODEL=... node anthropic_sdk.js TASK
'use strict';

const assert = require('assert');
const fs = require('fs');
const Anthropic = require('@anthropic-ai/sdk');

const client = new Anthropic({ baseURL: process.env.SERVER_URL, apiKey: 'unused' });
const model = process.env.MODEL;
const task = process.argv[2];
const tool = {
  name: 'write_file',
  description: 'Writes a text file.',
  input_schema: {
    type: 'object',
    properties: { path: { type: 'string' }, content: { type: 'string' } },
    required: ['path', 'content'],
  },
};

function write({ path, content }) {
  fs.writeFileSync(path, content);
  return 'written';
}

function textOf(message) {
  return message.content.filter(({ type }) => type === 'text').map(({ text }) => text).join('');
}

// complete() gives the whole answer to a request.
async function converse(complete) {
  const system = [{ type: 'text', text: 'You write files.', cache_control: { type: 'ephemeral' } }];
  const messages = [{ role: 'user', content: [{ type: 'text', text: task }] }];
  const request = { model, max_tokens: 1024, system, messages, tools: [tool] };
  const { input_tokens: counted } = await client.messages.countTokens(
    { model, system, messages, tools: [tool] });
  const first = await complete(request);
  assert.strictEqual(first.stop_reason, 'tool_use');
  assert.strictEqual(first.usage.input_tokens, counted);
  const call = first.content.find(({ type }) => type === 'tool_use');
  messages.push({ role: 'assistant', content: first.content }, {
    role: 'user',
    content: [{ type: 'tool_result', tool_use_id: call.id, content: write(call.input) }],
  });
  const last = await complete(request);
  assert.strictEqual(last.stop_reason, 'end_turn');
  return textOf(last);
}

async function main() {
  const whole = await converse((request) => client.messages.create(request));
  const streamed = await converse((request) => client.messages.stream(request).finalMessage());
  assert.strictEqual(streamed, whole);

  // The client's own loop, by its beta routes.
  const final = await client.beta.messages.toolRunner({
    model,
    max_tokens: 1024,
    messages: [{ role: 'user', content: task }],
    tools: [{ ...tool, type: 'custom', run: write, parse: (input) => input }],
  });
  assert.strictEqual(textOf(final), whole);
  console.log(whole);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
