// A round trip with a tool by the npm package "openai" and its Responses API, streamed and not, by
// a conversation that the server holds and by one that it does not: does as `task` says with the
// tool write_file, and prints the answer.
//
// usage: SERVER_URL=... MODEL=... node openai_responses_sdk.js TASK
'use strict';

const assert = require('assert');
const fs = require('fs');
const OpenAI = require('openai');

const client = new OpenAI({ baseURL: `${process.env.SERVER_URL}/v1`, apiKey: 'unused' });
const model = process.env.MODEL;
const task = process.argv[2];
const tool = {
  type: 'function',
  name: 'write_file',
  description: 'Writes a text file.',
  strict: true,
  parameters: {
    type: 'object',
    properties: { path: { type: 'string' }, content: { type: 'string' } },
    required: ['path', 'content'],
    additionalProperties: false,
  },
};

function answerCalls(items) {
  return items.filter(({ type }) => type === 'function_call').map((call) => {
    const { path, content } = JSON.parse(call.arguments);
    fs.writeFileSync(path, content);
    return { type: 'function_call_output', call_id: call.call_id, output: 'written' };
  });
}

// respond() gives the whole answer to a request.
async function converse(respond, isStored) {
  const input = [{ role: 'user', content: task }];
  const request = { model, instructions: 'You write files.', tools: [tool], store: isStored };
  const first = await respond({ ...request, input });
  const results = answerCalls(first.output);
  assert.strictEqual(results.length, 1);
  const next = isStored
    ? { previous_response_id: first.id, input: results }
    : { input: [...input, ...first.output, ...results] };
  const last = await respond({ ...request, ...next });
  assert.strictEqual(last.status, 'completed');
  assert.ok(last.usage.input_tokens > first.usage.input_tokens);
  return last.output_text;
}

async function main() {
  const texts = [];
  for (const isStored of [true, false]) {
    texts.push(await converse((request) => client.responses.create(request), isStored));
    texts.push(await converse(
      (request) => client.responses.stream(request).finalResponse(), isStored));
  }
  assert.strictEqual(new Set(texts).size, 1, texts.join('\n'));
  console.log(texts[0]);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
