// Markdown inside of a line as nodes: emphasis, code, links. What is not understood stays text.
import { h } from './dom.js';

const kMaxDepth = 6;
const kSpecial = /[`*_~[\]!<\\]|https?:\/\//g;
const kMarks = [['**', 'strong'], ['__', 'strong'], ['~~', 'del'], ['*', 'em'], ['_', 'em']];

const isSpace = (character) => character === undefined || /\s/.test(character);
const isWordPart = (character) => character !== undefined && /[\p{L}\p{N}_]/u.test(character);

// Links go to the web or to mail; anything else, scripts first of all, is no link.
function safeUrl(text) {
  try {
    const url = new URL(text);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(href, children) {
  return h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, children);
}

class Inline {
  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
    this.at = 0;
    this.nodes = [];
    this.missing = new Set();  // closing marks that do not come any more
  }

  parse() {
    while (this.at < this.text.length) {
      kSpecial.lastIndex = this.at;
      const next = kSpecial.exec(this.text);
      const end = next ? next.index : this.text.length;
      this.addText(this.text.slice(this.at, end));
      this.at = end;
      if (next && !this.special()) this.addText(this.text[this.at++]);
    }
    return this.nodes;
  }

  addText(text) {
    if (text) this.nodes.push(text);
  }

  // Takes what begins here; false: it is text.
  special() {
    const { text, at } = this;
    switch (text[at]) {
      case '\\':
        if (!/[!-/:-@[-`{-~]/.test(text[at + 1] ?? '')) return false;
        this.addText(text[at + 1]);
        this.at += 2;
        return true;
      case '`':
        return this.code();
      case '[':
        return this.linkAt(at);
      case '!':
        return text[at + 1] === '[' && this.linkAt(at + 1);  // an image is not loaded
      case '<': {
        const tag = /^<(?:br\s*\/?|(https?:\/\/[^\s<>]+))>/i.exec(text.slice(at, at + 500));
        if (!tag) return false;
        const url = tag[1] && safeUrl(tag[1]);
        if (tag[1] && !url) return false;
        this.nodes.push(url ? link(url, tag[1]) : h('br'));
        this.at += tag[0].length;
        return true;
      }
      case 'h':
        return this.bareUrl();
      default:
        return this.emphasis();
    }
  }

  find(mark, from) {
    if (this.missing.has(mark)) return -1;
    const at = this.text.indexOf(mark, from);
    if (at < 0) this.missing.add(mark);
    return at;
  }

  code() {
    const mark = /^`+/.exec(this.text.slice(this.at, this.at + 20))[0];
    const begin = this.at + mark.length;
    const end = this.find(mark, begin);
    if (end < 0) return false;
    let inner = this.text.slice(begin, end);
    if (/^ .*\S.* $/s.test(inner)) inner = inner.slice(1, -1);
    this.nodes.push(h('code', {}, inner));
    this.at = end + mark.length;
    return true;
  }

  linkAt(open) {
    const { text } = this;
    if (this.depth >= kMaxDepth) return false;
    const close = this.find('](', open);
    if (close < 0 || close - open > 1000) return false;
    const target = /^\]\(\s*<?((?:[^\s()<>]|\([^\s()<>]*\))+)>?(?:\s+"[^"]*")?\s*\)/
      .exec(text.slice(close, close + 3000));
    const url = target && safeUrl(target[1]);
    if (!url) return false;
    const label = text.slice(open + 1, close);
    this.nodes.push(link(url, label ? inline(label, kMaxDepth) : target[1]));
    this.at = close + target[0].length;
    return true;
  }

  bareUrl() {
    const found = /^https?:\/\/[^\s<>"'`]+/.exec(this.text.slice(this.at, this.at + 2000));
    if (!found) return false;
    const text = found[0].replace(/[.,;:!?*_)\]]+$/, '');
    const url = safeUrl(text);
    if (!url) return false;
    this.nodes.push(link(url, text));
    this.at += text.length;
    return true;
  }

  emphasis() {
    const { text, at } = this;
    if (this.depth >= kMaxDepth) return false;
    for (const [mark, tag] of kMarks) {
      if (!text.startsWith(mark, at)) continue;
      const begin = at + mark.length;
      if (isSpace(text[begin])) continue;
      if (mark[0] === '_' && isWordPart(text[at - 1])) continue;
      let end = this.find(mark, begin + 1);
      while (end > 0 && mark.length === 1 && text[end + 1] === mark) {  // of a strong inside
        end = this.find(mark, end + 2);
      }
      if (end < 0 || isSpace(text[end - 1])) continue;
      if (mark[0] === '_' && isWordPart(text[end + mark.length])) continue;
      this.nodes.push(h(tag, {}, inline(text.slice(begin, end), this.depth + 1)));
      this.at = end + mark.length;
      return true;
    }
    return false;
  }
}

export function inline(text, depth = 0) {
  return new Inline(text, depth).parse();
}
