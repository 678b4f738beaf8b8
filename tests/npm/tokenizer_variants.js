// Tokenizers of the other families, made from the bundled one: its vocabulary and merges with their
// splits, normalizers, post-processors and kinds of added tokens.
'use strict';

const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const LLAMA3 = `${CONTRACTION}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*` +
  '|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const O200K = `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${CONTRACTION}?|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*` +
  `${CONTRACTION}?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const DEEPSEEK = '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+' +
  '| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const SYNTAX = '(?>ab|a)c|^\\w+$|\\W\\S|[\\d\\-x]++|\\x41\\u00e9|(\\t|\\v)(?<! )|.{2,3}|\\p{^Lu}';

function byteLevel(addPrefixSpace, useRegex) {
  return { type: 'ByteLevel', add_prefix_space: addPrefixSpace, trim_offsets: true, use_regex: useRegex };
}

function split(pattern, behavior = 'Isolated', invert = false) {
  return { type: 'Split', pattern, behavior, invert };
}

function sequence(...steps) {
  return { type: 'Sequence', pretokenizers: [...steps, byteLevel(false, false)] };
}

function bosTemplate(content, id) {
  return {
    type: 'Sequence',
    processors: [byteLevel(true, true), {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: content, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
    }],
  };
}

function addedToken(id, content, flags) {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...flags };
}

// Name -> { json, addSpecialTokens }.
function makeVariants(bundled) {
  const size = Object.keys(bundled.model.vocab).length;
  const withModel = (flags) => ({ ...bundled.model, ...flags });
  const added = [
    ['<left>', { lstrip: true }], ['<right>', { rstrip: true, special: true }], ['<both>', { lstrip: true, rstrip: true }],
    ['word', { single_word: true }], ['\u212bngstrom', { normalized: true }], ['e\u0301t\u00e9', { normalized: true }],
    ['the', { normalized: true, single_word: true }], ['<|im_start|>user', {}], ['日本', { special: true }],
  ];
  let next = size; // the reference gives its own ids, in this way, whatever the file says
  const tokens = added.map(([content, flags]) => addedToken(bundled.model.vocab[content] ?? next++, content, flags));
  const make = (changes, addSpecialTokens = false) => ({ json: { ...bundled, ...changes }, addSpecialTokens });
  return {
    bundled: make({}),
    llama3: make({
      normalizer: null,
      pre_tokenizer: sequence(split({ Regex: LLAMA3 })),
      post_processor: bosTemplate('<|endoftext|>', 0),
      model: withModel({ ignore_merges: true, merges: bundled.model.merges.map((pair) => pair.join(' ')) }),
    }, true),
    o200k: make({ normalizer: null, pre_tokenizer: sequence(split({ Regex: O200K })) }),
    gpt2: make({ normalizer: null, pre_tokenizer: byteLevel(true, true), post_processor: null }),
    deepseek: make({
      normalizer: { type: 'Sequence', normalizers: [] },
      pre_tokenizer: sequence(split({ Regex: '\\p{N}{1,3}' }), split({ Regex: '[一-龥぀-ゟ゠-ヿ]+' }), split({ Regex: DEEPSEEK })),
    }),
    added: make({
      normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }] },
      added_tokens: [...bundled.added_tokens, ...tokens],
    }),
    syntax: make({ pre_tokenizer: sequence(split({ Regex: SYNTAX })) }),
    removed: make({ pre_tokenizer: sequence(split({ Regex: '\\s+' }, 'Removed'), split({ String: '.' }, 'Contiguous')) }),
    inverted: make({ pre_tokenizer: sequence(split({ Regex: '\\p{L}+|\\p{Han}' }, 'Removed', true)) }),
    previous: make({ pre_tokenizer: sequence(split({ Regex: '[^\\S\\r\\n]' }, 'MergedWithPrevious')) }),
    next: make({ pre_tokenizer: { type: 'Sequence', pretokenizers: [split({ Regex: '\\p{Lu}|' }, 'MergedWithNext'), byteLevel(true, false)] } }),
  };
}

module.exports = { makeVariants };
