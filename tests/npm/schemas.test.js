// Every kind of response of ultraspeed serve, whole and streamed, against JSON schemas of the types
// of the npm packages "openai" and "@anthropic-ai/sdk".
//
// usage: node schemas.test.js ULTRASPEED
'use strict';

const assert = require('assert');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { model, runTests, startServer } = require('./server.js');
const { makeCheck } = require('./schemas.js');
const { converse } = require('./web_socket.js');

const program = process.argv[2];
const modules = process.env.NODE_PATH;

const call = (city) => `<tool_call>\n<function=get_weather>\n<parameter=city>${city}</parameter>\n`
  + '<parameter=days>3</parameter>\n</function>\n</tool_call>';
// What the model is made to say where the prompt has `when`.
const script = [
  { when: 'Call one.', text: `<think>One call.</think>I call.${call('Paris')}` },
  { when: 'Call two.', text: `${call('Paris')}\n${call('Rome "<b>"\né')}` },
  { when: 'Think.', text: '<think>Let me think: 1 + 1.</think>It is "two" – 2 ✓.' },
  { when: 'Say nothing.', text: '' },
];
const parameters = {
  type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } },
};

// Fields of the request beside the model: of /v1/chat/completions ...
const user = (content) => ({ messages: [{ role: 'user', content }] });
const chatTools = {
  tools: [{ type: 'function', function: { name: 'get_weather', parameters } }],
};
const schemaFormat = { type: 'json_schema', json_schema: { name: 'a', schema: parameters } };
const chats = {
  plain: { ...user('Tom has 3 apples.'), max_tokens: 20 },
  length: { ...user('Tom has 3 apples.'), max_tokens: 1 },
  thinking: user('Think.'),
  stop: { ...user('Think.'), stop: ['two'] },
  empty: user('Say nothing.'),
  'one call': { ...user('Call one.'), ...chatTools },
  'two calls': { ...user('Call two.'), ...chatTools, tool_choice: 'auto' },
  'a call cut off': { ...user('Call one.'), ...chatTools, max_tokens: 20 },
  'a call that must be': { ...user('Call one.'), ...chatTools, tool_choice: 'required' },
  logprobs: { ...user('Think.'), logprobs: true, top_logprobs: 3 },
  'logprobs of calls': { ...user('Call one.'), ...chatTools, logprobs: true },
  'two answers': { ...user('Tom has 3 apples.'), n: 2, temperature: 1, max_tokens: 20 },
  'two answers with calls': { ...user('Call two.'), ...chatTools, n: 2 },
  schema: { ...user('The weather?'), response_format: schemaFormat, max_tokens: 40 },
  'first in the queue': { ...user('Think.'), service_tier: 'priority', priority: -1 },
  'the fast tier': { ...user('Think.'), speed: 'fast' },
  'in time': { ...user('Think.'), deadline_ms: 600000, budget_ms: 600000 },
};
// ... of /v1/completions ...
const completions = {
  plain: { prompt: 'def add(a, b):', max_tokens: 8 },
  length: { prompt: 'def add(a, b):', max_tokens: 1 },
  echo: { prompt: 'def add(a, b):', max_tokens: 4, echo: true },
  stop: { prompt: 'Think.', stop: 'two' },
  logprobs: { prompt: 'def add(a, b):', max_tokens: 4, logprobs: 2 },
  'two answers': { prompt: 'def add(a, b):', max_tokens: 4, n: 2, temperature: 1 },
  empty: { prompt: 'Say nothing.' },
};
// ... of both, where the best of several is wanted, which cannot be streamed, ...
const candidates = { best_of: 3, temperature: 1, max_tokens: 20 };
const selections = {
  likeliest: candidates,
  majority: { ...candidates, best_of_mode: 'majority' },
  judge: { ...candidates, best_of_mode: 'judge' },
};
// ... of /v1/responses ...
const responsesTools = { tools: [{ type: 'function', name: 'get_weather', parameters }] };
const responses = {
  plain: { input: 'Tom has 3 apples.', instructions: 'Be brief.', max_output_tokens: 20 },
  length: { input: 'Tom has 3 apples.', max_output_tokens: 1 },
  thinking: { input: [{ role: 'user', content: 'Think.' }], reasoning: { summary: 'auto' } },
  'not stored': { input: 'Think.', store: false, include: ['reasoning.encrypted_content'] },
  empty: { input: 'Say nothing.' },
  'one call': { input: 'Call one.', ...responsesTools },
  'two calls': { input: 'Call two.', ...responsesTools, parallel_tool_calls: true },
  'a call cut off': { input: 'Call one.', ...responsesTools, max_output_tokens: 20 },
  schema: {
    input: 'The weather?',
    text: { format: { type: 'json_schema', name: 'a', schema: parameters } },
    max_output_tokens: 40,
  },
};
const lastEvents = ['response.completed', 'response.incomplete', 'response.failed', 'error'];
// ... and of /v1/messages.
const messagesTools = { tools: [{ name: 'get_weather', input_schema: parameters }] };
const asked = (content) => ({ ...user(content), max_tokens: 200 });
const messages = {
  plain: { ...asked('Tom has 3 apples.'), max_tokens: 20 },
  length: { ...asked('Tom has 3 apples.'), max_tokens: 1 },
  thinking: { ...asked('Think.'), thinking: { type: 'enabled', budget_tokens: 1024 } },
  stop: { ...asked('Think.'), stop_sequences: ['two'] },
  empty: asked('Say nothing.'),
  'in a hurry': { ...asked('Think.'), speed: 'fast' },
  'one call': { ...asked('Call one.'), ...messagesTools },
  'two calls': { ...asked('Call two.'), ...messagesTools, tool_choice: { type: 'auto' } },
  'a call cut off': { ...asked('Call one.'), ...messagesTools, max_tokens: 20 },
  'a call that must be': {
    ...asked('Call one.'), ...messagesTools, tool_choice: { type: 'tool', name: 'get_weather' },
  },
};

let url; // of the server

async function getJson(route, headers = {}) {
  return (await fetch(url + route, { headers })).json();
}

async function post(route, fields) {
  const response = await fetch(url + route, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(fields),
  });
  return { status: response.status, text: await response.text() };
}

async function postForJson(route, fields) {
  const { status, text } = await post(route, { model, temperature: 0, ...fields });
  assert.strictEqual(status, 200, text);
  return JSON.parse(text);
}

// The events of a stream as {name, data}.
async function postForEvents(route, fields) {
  const { status, text } = await post(route, { model, temperature: 0, stream: true, ...fields });
  assert.strictEqual(status, 200, text);
  return text.split('\n\n').filter((event) => event && !event.startsWith(':')).map((event) => {
    const match = /^(?:event: (\S+)\n)?data: (.*)$/.exec(event);
    assert.ok(match, `no event: ${event}`);
    return { name: match[1], data: match[2] };
  });
}

function openaiTests(check, route, bodies, wholeType, chunkType) {
  const tests = {};
  for (const [name, body] of Object.entries(bodies)) {
    tests[`${route}: ${name}`] = async () => check(wholeType, await postForJson(route, body));
    tests[`${route}: ${name}, streamed`] = async () => {
      const events = await postForEvents(
        route, { ...body, stream_options: { include_usage: true } });
      assert.strictEqual(events.pop().data, '[DONE]');
      assert.ok(events.length > 0);
      for (const { data } of events) check(chunkType, JSON.parse(data));
    };
  }
  return tests;
}

function selectionTests(check) {
  const tests = {};
  for (const [name, body] of Object.entries(selections)) {
    tests[`/v1/chat/completions: ${name}`] = async () => check(
      'ChatAnswer', await postForJson('/v1/chat/completions', { ...user('Tom has'), ...body }));
    if (name === 'judge') continue; // asks in a chat
    tests[`/v1/completions: ${name}`] = async () => check(
      'CompletionAnswer', await postForJson('/v1/completions', { prompt: 'Tom has', ...body }));
  }
  return tests;
}

// Both forms of the answer are the same one.
function messagesTests(check) {
  const checkBoth = (type, value) => {
    check(type, value);
    check(`Beta${type}`, value);
  };
  const tests = {};
  for (const [name, body] of Object.entries(messages)) {
    tests[`/v1/messages: ${name}`] = async () => checkBoth(
      'MessagesAnswer', await postForJson('/v1/messages', body));
    tests[`/v1/messages: ${name}, streamed`] = async () => {
      const events = await postForEvents('/v1/messages?beta=true', body);
      assert.strictEqual(events.at(-1).name, 'message_stop');
      for (const { name: type, data } of events) {
        const event = JSON.parse(data);
        assert.strictEqual(event.type, type);
        if (type !== 'ping') checkBoth('MessagesEvent', event);
      }
    };
    tests[`/v1/messages/count_tokens: ${name}`] = async () => checkBoth(
      'TokensCount', await postForJson('/v1/messages/count_tokens', body));
  }
  return tests;
}

function responsesTests(check) {
  const route = '/v1/responses';
  const tests = {};
  for (const [name, body] of Object.entries(responses)) {
    tests[`${route}: ${name}`] = async () => {
      const answer = await postForJson(route, body);
      check('ResponsesAnswer', answer);
      if (body.store === false) return;
      check('ResponsesAnswer', await getJson(`${route}/${answer.id}`));
      const { data } = await getJson(`${route}/${answer.id}/input_items`);
      assert.ok(data.length > 0);
      for (const item of data) check('ResponsesItem', item);
    };
    tests[`${route}: ${name}, streamed`] = async () => {
      for (const { name: type, data } of await postForEvents(route, body)) {
        const event = JSON.parse(data);
        assert.strictEqual(event.type, type);
        check('ResponsesEvent', event);
      }
    };
    tests[`${route}: ${name}, by WebSocket`] = async () => {
      const request = { type: 'response.create', model, temperature: 0, ...body };
      const isLast = (text) => lastEvents.includes(JSON.parse(text).type);
      const events = await converse(url, route, JSON.stringify(request), isLast);
      for (const event of events) check('ResponsesEvent', JSON.parse(event));
      assert.notStrictEqual(JSON.parse(events.at(-1)).type, 'error', events.at(-1));
    };
    tests[`${route}/input_tokens: ${name}`] = async () => check(
      'ResponsesTokens', await postForJson(`${route}/input_tokens`, body));
  }
  return tests;
}

// How each route is asked.
const asks = {
  '/v1/chat/completions': user,
  '/v1/completions': (text) => ({ prompt: text }),
  '/v1/responses': (text) => ({ input: text }),
  '/v1/messages': asked,
};
// What is refused, with the status.
const refusals = [
  ['no model', 400, {}, 'Hi'],
  ['another model', 404, { model: 'other' }, 'Hi'],
  ['a wrong value', 400, { model, temperature: 7 }, 'Hi'],
  ['too long', 400, { model }, 'word '.repeat(20000)],
];

function refusalTests(check) {
  const tests = {};
  for (const [route, ask] of Object.entries(asks)) {
    const type = route === '/v1/messages' ? 'AnthropicError' : 'OpenAIError';
    for (const [name, expected, fields, question] of refusals) {
      tests[`${route}: ${name}`] = async () => {
        const { status, text } = await post(route, { ...ask(question), ...fields });
        assert.strictEqual(status, expected, text);
        check(type, JSON.parse(text));
      };
    }
  }
  tests['no route'] = async () => {
    const { status, text } = await post('/v1/nothing', {});
    assert.strictEqual(status, 404);
    check('OpenAIError', JSON.parse(text));
  };
  return tests;
}

function modelTests(check) {
  const anthropic = { 'anthropic-version': '2023-06-01' };
  return {
    '/v1/models': async () => check('ModelList', await getJson('/v1/models')),
    '/v1/models/NAME': async () => check('ServedModel', await getJson(`/v1/models/${model}`)),
    '/v1/models/OTHER': async () => check('OpenAIError', await getJson('/v1/models/other')),
    "/v1/models in Anthropic's form": async () => check(
      'AnthropicModelList', await getJson('/v1/models', anthropic)),
    "/v1/models/NAME in Anthropic's form": async () => {
      const served = await getJson(`/v1/models/${model}`, anthropic);
      check('AnthropicModel', served);
      check('BetaAnthropicModel', served);
    },
    "/v1/models/OTHER in Anthropic's form": async () => check(
      'AnthropicError', await getJson('/v1/models/other', anthropic)),
  };
}

async function main() {
  const check = makeCheck(modules);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ultraspeed-schemas-'));
  const scriptFile = path.join(folder, 'script.jsonl');
  fs.writeFileSync(scriptFile, script.map((line) => JSON.stringify(line)).join('\n'));
  const server = await startServer(program, ['--force-text', scriptFile]);
  url = server.url;
  const passed = await runTests('schemas', {
    ...openaiTests(
      check, '/v1/chat/completions', chats, 'ChatAnswer', 'ChatChunk'),
    ...selectionTests(check),
    ...openaiTests(check, '/v1/completions', completions, 'CompletionAnswer', 'CompletionChunk'),
    ...responsesTests(check),
    ...messagesTests(check),
    ...refusalTests(check),
    ...modelTests(check),
  });
  await server.stop();
  fs.rmSync(folder, { recursive: true });
  process.exit(passed ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
