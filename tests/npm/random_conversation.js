// Random chat requests: messages of all roles with odd texts, tools with odd schemas, tool calls
// with odd arguments. Made on top of TextGenerator; the same for the same seed.
'use strict';

const { TextGenerator } = require('./random_text.js');

const SPECIALS = [
  '<|im_start|>', '<|im_end|>', '<|endoftext|>', '<think>', '</think>', '<tool_call>',
  '</tool_call>', '<tool_response>', '</tool_response>', '{{ x }}', '{% if %}', '<|channel|>',
  '<|end|>',
];
const MAX_PARTS = 8;
const LAST_BASIC = 0xd7ff;

// Characters that Python's str.strip() and JavaScript's trim() do not both take for white space.
const DISPUTED_SPACE = /[\x1c-\x1f\x85\ufeff]/g;

// `quirks` name what a generator is to leave out because the reference, which is no Python, renders
// it in its own way:
//   unions         schemas without a type (it has no error for tojson of an undefined value)
//   typeLists      types that are lists, where a template prints them (its lists print as JSON)
//   printed        booleans and null where a template prints them (as "true" and "null")
//   nullTools      tools given as null (for it, null is iterable)
//   outerSpace     white space around texts and reasoning (its strip() ignores the argument)
//   manyCalls      more than one call a message (the template refuses them, or drops the others)
//   builtinTools   tools that a template knows by name (it has no filter "reject")
//   emptyContent   content that is null (it has another error than the template's own)
class ConversationGenerator {
  constructor(seed, quirks = []) {
    this.without = new Set(quirks);
    const codePoints = Array.from({ length: LAST_BASIC - 0x20 }, (_, i) => 0x20 + i);
    this.texts = new TextGenerator(seed, SPECIALS, codePoints);
  }

  below(count) { return this.texts.below(count); }
  pick(list) { return this.texts.pick(list); }
  chance(percent) { return this.below(100) < percent; }

  text() {
    const text = this.texts.text(MAX_PARTS).replace(DISPUTED_SPACE, '');
    if (!this.without.has('outerSpace')) return text;
    const inner = text.trim().replace(/\s*(<\/?think>)\s*/g, '$1');
    return '\n'.repeat(this.below(3)) + inner + '\n'.repeat(this.below(3));
  }

  name() { return this.pick(['f', 'get_weather', 'run', 'größe', 'x y']) + this.below(3); }

  // No whole floats and few digits: JavaScript cannot tell 1.0 from 1, nor writes 1e-07.
  number() { return this.chance(50) ? this.below(100000) - 50000 : (this.below(999) + 0.5) / 4; }

  json(depth) {
    switch (this.below(depth > 0 ? 8 : 6)) {
      case 0: return this.number();
      case 1: return this.chance(50);
      case 2: return null;
      case 6: return Array.from({ length: this.below(4) }, () => this.json(depth - 1));
      case 7: return this.object(depth - 1);
      default: return this.text();
    }
  }

  object(depth) {
    const object = {};
    for (let i = this.below(4); i > 0; --i) {
      object[`k${this.below(50)}${this.text()}`] = this.json(depth);
    }
    return object;
  }

  // A value that a template may print as it is.
  printable(value) {
    const prints = !this.without.has('printed') || (value !== null && typeof value !== 'boolean');
    return prints ? value : 'text';
  }

  arguments() {
    const entries = Object.entries(this.object(2));
    return Object.fromEntries(entries.map(([name, value]) => [name, this.printable(value)]));
  }

  schema(depth) {
    const kind = this.below(depth > 0 ? 9 : 6);
    const schema = { type: this.pick(['string', 'integer', 'number', 'boolean']) };
    if (kind === 5 && !this.without.has('typeLists')) schema.type = ['string', 'null'];
    if (kind === 6) Object.assign(schema, { type: 'array', items: this.schema(depth - 1) });
    if (kind === 7) {
      Object.assign(schema, { type: 'object', properties: this.properties(depth - 1) });
    }
    if (kind === 8 && !this.without.has('unions')) {
      Object.assign(schema, { type: undefined, oneOf: [this.schema(0), this.schema(0)] });
    }
    if (this.chance(50)) schema.description = this.text();
    if (this.chance(20) && schema.type === 'string') schema.enum = [this.text(), this.text()];
    if (this.chance(20)) schema.default = this.printable(this.json(1));
    if (this.chance(10)) schema.nullable = this.printable(true);
    if (this.chance(10)) schema.pattern = this.text();
    return schema;
  }

  properties(depth) {
    const properties = {};
    for (let i = this.below(4); i > 0; --i) properties[this.name()] = this.schema(depth);
    return properties;
  }

  tool() {
    const tool = { name: this.name(), description: this.text() };
    if (this.chance(90)) {
      tool.parameters = { type: 'object', properties: this.properties(2), required: [this.name()] };
    }
    return this.chance(70) ? { type: 'function', function: tool } : tool;
  }

  call() {
    const call = { name: this.name(), arguments: this.arguments() };
    return this.chance(80) ? { id: 'c', type: 'function', function: call } : call;
  }

  assistant() {
    const message = { role: 'assistant', content: this.chance(15) ? null : this.text() };
    if (this.chance(40)) message.reasoning_content = this.text();
    if (this.chance(40)) {
      const count = this.without.has('manyCalls') ? 1 : 1 + this.below(3);
      message.tool_calls = Array.from({ length: count }, () => this.call());
    }
    if (this.without.has('emptyContent')) message.content = message.content || '';
    if (this.chance(40)) message.thinking = this.text();
    if (message.thinking && message.tool_calls && this.chance(90)) message.content = '';
    return message;
  }

  messages() {
    const messages = this.chance(50) ? [{ role: 'system', content: this.text() }] : [];
    for (let i = 1 + this.below(6); i > 0; --i) {
      if (this.chance(80)) messages.push({ role: 'user', content: this.text() });
      if (this.chance(80)) messages.push(this.assistant());
      while (this.chance(30)) messages.push({ role: 'tool', content: this.text() });
    }
    return messages.length > 0 ? messages : [{ role: 'user', content: this.text() }];
  }

  // The variables of a request, with or without each optional one.
  request() {
    const request = { messages: this.messages(), add_generation_prompt: this.chance(70) };
    request.bos_token = '<s>';
    if (!this.without.has('nullTools')) request.tools = null;
    if (this.chance(60)) request.tools = Array.from({ length: this.below(4) }, () => this.tool());
    if (this.chance(60)) request.enable_thinking = this.chance(50);
    if (this.chance(30)) request.reasoning_effort = this.pick(['low', 'high']);
    if (this.chance(20)) request.date_string = '3 Mar 2026';
    if (this.chance(20)) request.tools_in_user_message = this.chance(50);
    if (!this.without.has('builtinTools') && this.chance(20)) {
      request.builtin_tools = ['browser', 'python'].slice(this.below(2));
    }
    return JSON.parse(JSON.stringify(request)); // drops undefined values
  }
}

module.exports = { ConversationGenerator };
