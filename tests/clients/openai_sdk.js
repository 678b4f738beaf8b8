// A round trip with a tool by the npm package "openai", streamed and not: does as `task` says with
// the tool write_file, and prints the answer.
//
// usage: SERVER_URL=... MODEL=... node openai_sdk.js TASK
'use strict';

const assert = require('assert');
const fs = require('fs');
const OpenAI = require('openai');

const client = new OpenAI({ baseURL: `${process.env.SERVER_URL}/v1`, apiKey: 'unused' });
const model = process.env.MODEL;
const task = process.argv[2];
const tool = {
  type: 'function',
  function: {
    name: 'write_file',
    description: 'Writes a text file.',
    parameters: {
      type: 'object',
      properties: { path: { type: 'string' }, content: { type: 'string' } },
      required: ['path', 'content'],
    },
  },
};

function answerCalls(calls) {
  return calls.map((call) => {
    const { path, content } = JSON.parse(call.function.arguments);
    fs.writeFileSync(path, content);
    return { role: 'tool', tool_call_id: call.id, content: 'written' };
  });
}

// complete() gives the whole answer to a request.
async function converse(complete) {
  const messages = [
    { role: 'system', content: 'You write files.' }, { role: 'user', content: task }];
  const first = await complete({ model, messages, tools: [tool], tool_choice: 'auto' });
  assert.strictEqual(first.choices[0].finish_reason, 'tool_calls');
  const { message } = first.choices[0];
  assert.strictEqual(message.tool_calls.length, 1);
  messages.push(message, ...answerCalls(message.tool_calls));
  const last = await complete({ model, messages, tools: [tool] });
  assert.strictEqual(last.choices[0].finish_reason, 'stop');
  assert.ok(last.usage.prompt_tokens > first.usage.prompt_tokens);
  return last.choices[0].message.content;
}

async function main() {
  const whole = await converse((request) => client.chat.completions.create(request));
  const streamed = await converse((request) => client.chat.completions
    .stream({ ...request, stream_options: { include_usage: true } }).finalChatCompletion());
  assert.strictEqual(streamed, whole);

  // The client's own loop.
  const runner = client.chat.completions.runTools({
    model,
    messages: [{ role: 'user', content: task }],
    tools: [{
      type: 'function',
      function: {
        ...tool.function,
        parse: JSON.parse,
        function: ({ path, content }) => {
          fs.writeFileSync(path, content);
          return 'written';
        },
      },
    }],
  });
  assert.strictEqual(await runner.finalContent(), whole);
  console.log(whole);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
