// Runs the npm package "openai" (the official client) against ultraspeed serve with the bundled
// model: chat and completions, streamed and not, and the errors that the client knows.
//
// usage: node openai.test.js ULTRASPEED
'use strict';

const assert = require('assert');
const OpenAI = require('openai');
const { model, runTests, startServer } = require('./server.js');

const program = process.argv[2];
const chat = {
  model,
  messages: [{ role: 'user', content: 'Tom has 3 apples and buys 4 more. How many has he?' }],
  temperature: 0,
  max_tokens: 64,
};
const completion = { model, prompt: 'def add(a, b):', temperature: 0, max_tokens: 24 };

async function joinChat(stream) {
  const joined = { content: '', reasoning_content: '', chunks: 0 };
  for await (const chunk of stream) {
    assert.strictEqual(chunk.object, 'chat.completion.chunk');
    joined.chunks += 1;
    if (chunk.usage) joined.usage = chunk.usage;
    for (const choice of chunk.choices) {
      joined.content += choice.delta.content ?? '';
      joined.reasoning_content += choice.delta.reasoning_content ?? '';
      if (choice.finish_reason) joined.finish_reason = choice.finish_reason;
    }
  }
  return joined;
}

const tests = {
  async 'lists the model'(client) {
    const models = [];
    for await (const entry of client.models.list()) models.push(entry.id);
    assert.deepStrictEqual(models, [model]);
    assert.strictEqual((await client.models.retrieve(model)).owned_by, 'ultraspeed');
  },

  async 'chats, streamed as unstreamed'(client) {
    const whole = await client.chat.completions.create(chat);
    const { message, finish_reason: reason } = whole.choices[0];
    assert.strictEqual(message.role, 'assistant');
    assert.ok(message.content.length + (message.reasoning_content ?? '').length > 0);
    assert.strictEqual(whole.usage.total_tokens,
      whole.usage.prompt_tokens + whole.usage.completion_tokens);
    const streamed = await joinChat(await client.chat.completions.create(
      { ...chat, stream: true, stream_options: { include_usage: true } }));
    assert.strictEqual(streamed.content, message.content);
    assert.strictEqual(streamed.reasoning_content, message.reasoning_content ?? '');
    assert.strictEqual(streamed.finish_reason, reason);
    const { prompt_tokens_details: cached, ...counts } = streamed.usage;
    assert.deepStrictEqual({ ...counts, prompt_tokens_details: { cached_tokens: 0 } }, whole.usage);
    assert.strictEqual(cached.cached_tokens, whole.usage.prompt_tokens - 1);
    assert.ok(streamed.chunks > 4, `${streamed.chunks} chunks`);
  },

  async 'helps with streams'(client) {
    const runner = client.chat.completions.stream(chat);
    const final = await runner.finalChatCompletion();
    const whole = await client.chat.completions.create(chat);
    assert.strictEqual(final.choices[0].message.content, whole.choices[0].message.content);
  },

  async 'completes, streamed as unstreamed'(client) {
    const whole = await client.completions.create(completion);
    let text = '';
    for await (const chunk of await client.completions.create({ ...completion, stream: true })) {
      text += chunk.choices[0].text;
    }
    assert.ok(text.length > 0);
    assert.strictEqual(text, whole.choices[0].text);
  },

  async 'stops at strings and lengths'(client) {
    const whole = (await client.completions.create(completion)).choices[0].text;
    const stop = whole.slice(4, 7);
    const stopped = await client.completions.create({ ...completion, stop: [stop] });
    assert.strictEqual(stopped.choices[0].text, whole.slice(0, whole.indexOf(stop)));
    assert.strictEqual(stopped.choices[0].finish_reason, 'stop');
    const short = await client.completions.create(
      { ...completion, max_tokens: 3, logit_bias: { 2: -100, 0: -100 } });
    assert.strictEqual(short.choices[0].finish_reason, 'length');
    assert.strictEqual(short.usage.completion_tokens, 3);
  },

  async 'reports logprobs'(client) {
    const answer = await client.chat.completions.create(
      { ...chat, max_tokens: 5, logprobs: true, top_logprobs: 3 });
    const { content } = answer.choices[0].logprobs;
    assert.strictEqual(content.length, answer.usage.completion_tokens);
    for (const token of content) {
      assert.strictEqual(token.top_logprobs.length, 3);
      assert.ok(token.logprob <= 0 && token.logprob === token.top_logprobs[0].logprob);
    }
  },

  async 'the same seed gives the same text'(client) {
    const sampled = { ...chat, temperature: 1, seed: 7 };
    const texts = await Promise.all([1, 2].map(() => client.chat.completions.create(sampled)));
    assert.strictEqual(texts[0].choices[0].message.content, texts[1].choices[0].message.content);
  },

  async 'answers four at once'(client) {
    const whole = (await client.chat.completions.create(chat)).choices[0].message.content;
    const streams = await Promise.all([1, 2, 3, 4].map(async () => joinChat(
      await client.chat.completions.create({ ...chat, stream: true }))));
    for (const stream of streams) assert.strictEqual(stream.content, whole);
  },

  async 'takes tools and their results'(client) {
    const answer = await client.chat.completions.create({
      ...chat,
      tools: [{ type: 'function', function: { name: 'add', description: 'adds',
        parameters: { type: 'object', properties: { a: { type: 'integer' } } } } }],
      messages: [...chat.messages,
        { role: 'assistant', content: null, tool_calls: [
          { id: 'call-1', type: 'function', function: { name: 'add', arguments: '{"a":3}' } }] },
        { role: 'tool', tool_call_id: 'call-1', content: '7' }],
    });
    assert.ok(answer.usage.completion_tokens > 0);
  },

  async 'raises the errors of its classes'(client) {
    const raises = (request, type, code) => assert.rejects(
      client.chat.completions.create(request),
      (error) => error instanceof type && error.code === code);
    await raises({ ...chat, model: 'gpt-4' }, OpenAI.NotFoundError, 'model_not_found');
    await raises({ ...chat, temperature: 7 }, OpenAI.BadRequestError, 'invalid_value');
    await raises(
      { ...chat, functions: [{ name: 'f' }] }, OpenAI.BadRequestError, 'unsupported_value');
    const long = [{ role: 'user', content: 'word '.repeat(20000) }];
    await raises({ ...chat, messages: long }, OpenAI.BadRequestError, 'context_length_exceeded');
  },

  async 'an aborted stream frees the server'(client, log) {
    const stream = await client.completions.create(
      { ...completion, max_tokens: undefined, stream: true, ignore_eos: true });
    for await (const chunk of stream) {
      assert.strictEqual(chunk.object, 'text_completion');
      break; // aborts the request
    }
    while (!log().includes('end=client closed the connection')) {
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    assert.ok((await client.completions.create(completion)).choices[0].text.length > 0);
  },
};

async function main() {
  const { url, log, stop } = await startServer(program);
  const client = new OpenAI(
    { baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0, timeout: 300000 });
  const bound = Object.entries(tests).map(([name, test]) => [name, () => test(client, log)]);
  const passed = await runTests('openai', Object.fromEntries(bound));
  await stop();
  process.exit(passed ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
