// Random texts for comparisons: the scripts, symbols and white space that tokenizers trip over.
'use strict';

// A generator of uniform numbers in [0, 1), the same for the same seed (mulberry32).
function seededRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const WHITE_SPACE = [
  ' ', ' ', ' ', '  ', '    ', '\n', '\n\n', '\r\n', '\r', '\t', '\v', '\f', '\x85', '\xa0',
  '\u1680', '\u180e', '\u2000', '\u2003', '\u200a', '\u200b', '\u2028', '\u2029', '\u202f',
  '\u205f', '\u2060', '\u3000', '\ufeff', ' \n', '\n ', '\t\n\t', '\u180e ', ' \u180e', '\x1c',
  '\x1f',
];

const WORDS = [
  'the', 'Hello', 'world', 'ÜBER', 'naïve', 'Straße', 'İstanbul', 'ﬁne', 'Ωmega',
  'Привет', 'мир', 'שלום', 'مرحبا', 'नमस्ते', 'ไทย',
  'မြန်မာ', 'ខ្មែរ', '日本語', 'テキスト', '中文字符',
  '한국어', '각', 'ქართული', 'Ελληνικά', '𝔘𝔫𝔦',
  'camelCaseName', 'snake_case', 'SCREAMING_CASE', 'getURLForHTTP2', 'ǅungla', 'ªº', 'ʰʷ',
];

const CONTRACTIONS = [
  "'s", "'S", "'t", "'re", "'VE", "'m", "'ll", "'Ll", "'d", "'ſ", '’s', "''", "'", "'tis",
  "'x",
];

const CODE = [
  'for (int i = 0; i < n; ++i) {\n', '    return x[i]->y;\n}\n',
  'def f(self, x: int = 3):\n\t"""doc"""\n', '// comment\n', '/* a */',
  'std::vector<std::pair<int, int>>', '#include <stdio.h>\n', '$HOME/.config', 'a&&b||!c',
  '{"k": [1, 2.5e-3, null]}', '<div class="x">', '</div>', '\\n\\u00e9', '```js\n', '```\n',
  'x**2', '@app.route("/")\n',
];

const PUNCTUATION = [
  '.', ',', '!', '?', '...', '!!!', '---', '—', '«', '»', '“', '”', '。', '、', '（',
  '）', '$', '€', '%', '+', '=', '<', '>', '|', '~', '^', '`', '#', '*', '/', '\\', '…',
  '№', '©', '™',
];

const EMOJI = [
  '🙂', '🚀', '👩‍💻', '👨‍👩‍👧‍👦', '🏳️‍🌈', '🇳🇴',
  '👍🏽', '☃', '☃️', '1️⃣',
];

const MARKS = [
  '\u0301', '\u0300', '\u0308', '\u030a', '\u0323', '\u0327', '\u0338', '\u0345', '\u05b0',
  '\u064b', '\u093c', '\u0e38', '\u3099', '\u309a', '\u20dd', '\ufe0f', '\u200d', '\u1dc4',
];

const BASES = [
  'a', 'A', 'e', 'E', 'q', 'ạ', 'Å', '\u212b', '\u2126', 'か', 'ハ', 'क', 'ᄒ', '가',
  '\u1161', '\u11a8', '=', '1', ' ',
];

const DIGITS = [
  '0', '7', '42', '123', '1234', '12345678901234567890', '3.14159', '1e-9', '0xDEADBEEF',
  '١٢٣', '१२३', '½', '²', 'Ⅷ', '①', '1,000,000', '２０２４',
];

// Texts of up to maxParts parts. `specials` are strings that a tokenizer treats as one token;
// `codePoints` are those to choose single characters from.
class TextGenerator {
  constructor(seed, specials, codePoints) {
    this.random = seededRandom(seed);
    this.specials = specials;
    this.codePoints = codePoints;
  }

  below(count) { return Math.floor(this.random() * count); }
  pick(list) { return list[this.below(list.length)]; }

  marked() {
    let text = this.pick(BASES);
    for (let i = this.below(5); i > 0; --i) text += this.pick(MARKS);
    return text;
  }

  specialLike() {
    const special = this.pick(this.specials);
    switch (this.below(5)) {
      case 0: return special.slice(0, 1 + this.below(special.length));
      case 1: return special.slice(this.below(special.length));
      case 2: return special + special;
      default: return special;
    }
  }

  part() {
    switch (this.below(12)) {
      case 0: case 1: return this.pick(WORDS);
      case 2: case 3: return this.pick(WHITE_SPACE);
      case 4: return this.pick(WORDS) + this.pick(CONTRACTIONS);
      case 5: return this.pick(CODE);
      case 6: return this.pick(PUNCTUATION);
      case 7: return this.pick(EMOJI);
      case 8: return this.marked();
      case 9: return this.pick(DIGITS);
      case 10: return this.specialLike();
      default: return String.fromCodePoint(this.pick(this.codePoints));
    }
  }

  text(maxParts) {
    let text = '';
    for (let i = this.below(maxParts + 1); i > 0; --i) text += this.part();
    return text;
  }

  // Every code point of the list once, in random order, in texts of `size` of them.
  coverage(size) {
    const shuffled = this.codePoints.slice();
    for (let i = shuffled.length - 1; i > 0; --i) {
      const j = this.below(i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
    }
    const texts = [
  
];
    for (let i = 0; i < shuffled.length; i += size) {
      texts.push(String.fromCodePoint(...shuffled.slice(i, i + size)));
    }
    return texts;
  }
}

module.exports = { TextGenerator };
