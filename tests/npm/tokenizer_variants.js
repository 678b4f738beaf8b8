// Tokenizers of the other families, made from the bundled one: its vocabulary and merges with their
// splits, normalizers, post-processors and kinds of added tokens.
'use strict';

const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const OPTIONAL = '[^\\r\\n\\p{L}\\p{N}]?';
const SPACES = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const LLAMA3 = `${CONTRACTION}|${OPTIONAL}\\p{L}+|\\p{N}{1,3}` +
  `| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`;
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const O200K = `${OPTIONAL}${UPPER}*${LOWER}+${CONTRACTION}?|${OPTIONAL}${UPPER}+${LOWER}*` +
  `${CONTRACTION}?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;
const DEEPSEEK = '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+' +
  `|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|${SPACES}`;
// No family's, but every construct that our translation of the syntax knows.
const SYNTAX = '(?>ab|a)c|^\\w+$|\\W\\S|[\\d\\-x]++|\\x41\\u00e9|(\\t|\\v)(?<! )|.{2,3}|\\p{^Lu}';

function byteLevel(add_prefix_space, use_regex) {
  return { type: 'ByteLevel', add_prefix_space, trim_offsets: true, use_regex };
}

function split(pattern, behavior = 'Isolated', invert = false) {
  return { type: 'Split', pattern, behavior, invert };
}

function sequence(...steps) {
  return { type: 'Sequence', pretokenizers: [...steps, byteLevel(false, false)] };
}

function bosTemplate(content, id) {
  const text = (name, type_id) => ({ Sequence: { id: name, type_id } });
  return {
    type: 'Sequence',
    processors: [byteLevel(true, true), {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: content, type_id: 0 } }, text('A', 0)],
      pair: [text('A', 0), text('B', 1)],
      special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
    }],
  };
}

const NO_FLAGS = {
  single_word: false, lstrip: false, rstrip: false, normalized: false, special: false,
};

// Added tokens with every flag. The reference numbers those that are not in the vocabulary itself,
// in this way, whatever the file says.
function extraTokens(vocab) {
  const tokens = [
    ['<left>', { lstrip: true }],
    ['<right>', { rstrip: true, special: true }],
    ['<both>', { lstrip: true, rstrip: true }],
    ['word', { single_word: true }],
    ['\u212bngstrom', { normalized: true }],
    ['e\u0301t\u00e9', { normalized: true }],
    ['the', { normalized: true, single_word: true }],
    ['<|im_start|>user', {}],
    ['日本', { special: true }],
  ];
  let next = Object.keys(vocab).length;
  return tokens.map(([content, flags]) => (
    { id: vocab[content] ?? next++, content, ...NO_FLAGS, ...flags }));
}

// Name -> { json, addSpecialTokens }.
function makeVariants(bundled) {
  const make = (changes, addSpecialTokens = false) => (
    { json: { ...bundled, ...changes }, addSpecialTokens });
  const splitBy = (...splits) => make({ pre_tokenizer: sequence(...splits) });
  const regex = (source) => ({ Regex: source });
  return {
    bundled: make({}),
    llama3: make({
      normalizer: null,
      pre_tokenizer: sequence(split(regex(LLAMA3))),
      post_processor: bosTemplate('<|endoftext|>', 0),
      model: {
        ...bundled.model,
        ignore_merges: true,
        merges: bundled.model.merges.map((pair) => pair.join(' ')),
      },
    }, true),
    o200k: make({ normalizer: null, pre_tokenizer: sequence(split(regex(O200K))) }),
    gpt2: make({ normalizer: null, pre_tokenizer: byteLevel(true, true), post_processor: null }),
    deepseek: make({
      normalizer: { type: 'Sequence', normalizers: [] },
      pre_tokenizer: sequence(
        split(regex('\\p{N}{1,3}')), split(regex('[一-龥぀-ゟ゠-ヿ]+')), split(regex(DEEPSEEK))),
    }),
    added: make({
      normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }] },
      added_tokens: [...bundled.added_tokens, ...extraTokens(bundled.model.vocab)],
    }),
    syntax: splitBy(split(regex(SYNTAX))),
    removed: splitBy(split(regex('\\s+'), 'Removed'), split({ String: '.' }, 'Contiguous')),
    inverted: splitBy(split(regex('\\p{L}+|\\p{Han}'), 'Removed', true)),
    previous: splitBy(split(regex('[^\\S\\r\\n]'), 'MergedWithPrevious')),
    next: make({
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [split(regex('\\p{Lu}|'), 'MergedWithNext'), byteLevel(true, false)],
      },
    }),
  };
}

module.exports = { makeVariants };
