// Markdown as nodes, while it is being written: blocks that are complete stay as they are, only
// the last one is made again.
import { CodeView } from './code_view.js';
import { h } from './dom.js';
import { inline } from './inline.js';

const kFence = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
const kHeading = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const kRule = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const kItem = /^( {0,3})([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const kQuote = /^ {0,3}>\s?/;
const kTableRule = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const kMaxDepth = 8;

const isBlank = (line) => line.trim() === '';
const indent = (line) => line.length - line.trimStart().length;

function isTable(lines, at) {
  return lines[at].includes('|') && at + 1 < lines.length && lines[at + 1].includes('-')
    && kTableRule.test(lines[at + 1]);
}

function beginsBlock(lines, at) {
  const line = lines[at];
  return kFence.test(line) || kHeading.test(line) || kRule.test(line) || kQuote.test(line)
    || kItem.test(line) || isTable(lines, at);
}

const closingFence = (mark) => new RegExp(`^ {0,3}\\${mark[0]}{${mark.length},}\\s*$`);

function fenceEnd(lines, begin, mark) {
  const closing = closingFence(mark);
  let end = begin + 1;
  while (end < lines.length && !closing.test(lines[end])) ++end;
  return end;
}

function listEnd(lines, begin) {
  const isNumbered = /\d/.test(kItem.exec(lines[begin])[2]);
  let end = begin + 1;
  for (; end < lines.length; ++end) {
    const line = lines[end];
    if (isBlank(line)) continue;
    const item = kItem.exec(line);
    if (item && !kRule.test(line)) {
      if (/\d/.test(item[2]) !== isNumbered && indent(line) < 2) break;
    } else if (indent(line) < 2 && (isBlank(lines[end - 1]) || beginsBlock(lines, end))) {
      break;
    }
  }
  while (isBlank(lines[end - 1])) --end;
  return end;
}

// The line behind the block that begins at `begin`.
function blockEnd(lines, begin) {
  const line = lines[begin];
  const fence = kFence.exec(line);
  if (fence) return Math.min(fenceEnd(lines, begin, fence[2]) + 1, lines.length);
  if (kHeading.test(line) || kRule.test(line)) return begin + 1;
  let end = begin + 1;
  if (kQuote.test(line) || isTable(lines, begin)) {
    while (end < lines.length && !isBlank(lines[end])) ++end;
    return end;
  }
  if (kItem.test(line)) return listEnd(lines, begin);
  while (end < lines.length && !isBlank(lines[end]) && !beginsBlock(lines, end)) ++end;
  return end;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, '').replace(/(^|[^\\])\|$/, '$1');
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, '|'));
}

function table(lines) {
  const head = cells(lines[0]);
  const row = (tag, values) => h('tr', {}, head.map((_, i) => h(tag, tag === 'th' ?
    { scope: 'col' } : {}, inline(values[i] ?? ''))));
  return h('div', { class: 'table-scroll', tabindex: '0', role: 'group', 'aria-label': 'Table' },
    h('table', {}, h('thead', {}, row('th', head)),
      h('tbody', {}, lines.slice(2).map((line) => row('td', cells(line))))));
}

function list(lines, depth) {
  const first = kItem.exec(lines[0]);
  const isNumbered = /\d/.test(first[2]);
  const items = [];
  let width = 0;
  for (const line of lines) {
    const item = kItem.exec(line);
    if (item && (items.length === 0 || indent(line) < width)) {
      width = item[1].length + item[2].length + Math.min(Math.max(item[3].length, 1), 4);
      items.push([item[4]]);
    } else {
      items.at(-1).push(line.slice(Math.min(width, indent(line))));
    }
  }
  const isTight = !lines.some(isBlank);
  const children = items.map((item) => {
    const nodes = blocks(item, depth + 1);
    const lead = nodes[0];
    return h('li', {}, isTight && lead?.tagName === 'P'
      ? [...lead.childNodes, ...nodes.slice(1)] : nodes);
  });
  return isNumbered ? h('ol', { start: parseInt(first[2], 10) }, children) : h('ul', {}, children);
}

function code(lines) {
  const [, indentation, mark, info] = kFence.exec(lines[0]);
  const end = fenceEnd(lines, 0, mark);
  const view = new CodeView(info);
  for (const line of lines.slice(1, end)) {
    view.addLine(line.slice(Math.min(indentation.length, indent(line))));
  }
  view.finish();
  return view.element;
}

function block(lines, depth) {
  const heading = kHeading.exec(lines[0]);
  // The page has its own h1 and h2.
  if (heading) return h(`h${Math.min(heading[1].length + 2, 6)}`, {}, inline(heading[2]));
  if (kFence.test(lines[0])) return code(lines);
  if (kRule.test(lines[0])) return h('hr');
  if (depth < kMaxDepth) {
    if (kQuote.test(lines[0])) {
      return h('blockquote', {}, blocks(lines.map((line) => line.replace(kQuote, '')), depth + 1));
    }
    if (isTable(lines, 0)) return table(lines);
    if (kItem.test(lines[0])) return list(lines, depth);
  }
  return h('p', {}, inline(lines.map((line) => line.trimStart()).join('\n')));
}

function blocks(lines, depth = 0) {
  const nodes = [];
  for (let at = 0; at < lines.length;) {
    if (isBlank(lines[at])) {
      ++at;
      continue;
    }
    const end = blockEnd(lines, at);
    nodes.push(block(lines.slice(at, end), depth));
    at = end;
  }
  return nodes;
}

// Whether what is written behind the last line can still change the block. That line may be half.
function mayGoOn(lines, begin, end) {
  if (!kItem.test(lines[begin])) return end >= lines.length - 1;
  let next = end;
  while (next < lines.length - 1 && isBlank(lines[next])) ++next;  // they do not end a list
  return next >= lines.length - 1;
}

export class MarkdownView {
  // onCode(view) when a block of code has begun, has grown, and is complete.
  constructor(onCode = () => {}) {
    this.element = h('div', { class: 'markdown' });
    this.onCode = onCode;
    this.tail = '';        // what is not final yet
    this.unfinished = [];  // its nodes
    this.code = null;      // an open block of code: {view, closing, indentation}
  }

  push(text) {
    this.tail += text;
    this.update(false);
  }

  finish() {
    this.update(true);
    this.unfinished = [];
    this.tail = '';
  }

  update(isEnd) {
    for (const node of this.unfinished) node.remove();
    this.unfinished = [];
    const lines = this.tail.split('\n');
    let at = 0;
    // As long as a block of code begins or ends.
    for (let wasCode = !this.code; at < lines.length && wasCode !== (this.code !== null);) {
      wasCode = this.code !== null;
      at = wasCode ? this.takeCode(lines, at, isEnd) : this.takeBlocks(lines, at);
    }
    this.tail = lines.slice(at).join('\n');
  }

  // Returns the line behind the block, or the one that is not complete.
  takeCode(lines, begin, isEnd) {
    const { view, closing, indentation } = this.code;
    const strip = (line) => line.slice(Math.min(indentation, indent(line)));
    const last = lines.length - 1;
    let at = begin;
    for (; at < last && !closing.test(lines[at]); ++at) view.addLine(strip(lines[at]));
    const isClosed = at < last || (isEnd && closing.test(lines[last]));
    // A line of backticks may become the closing fence.
    if (!isClosed && (isEnd || !/^ {0,3}[`~]/.test(lines[last]))) view.setLast(strip(lines[last]));
    if (isClosed || isEnd) {
      view.finish();
      this.code = null;
    }
    this.onCode(view);
    return isClosed || isEnd ? at + 1 : at;
  }

  // Returns the line that is not final yet, or the first one of a block of code.
  takeBlocks(lines, begin) {
    let firstOpen = -1;
    for (let at = begin; at < lines.length;) {
      if (isBlank(lines[at])) {
        ++at;
        continue;
      }
      const fence = at + 1 < lines.length && kFence.exec(lines[at]);
      if (fence) {
        const view = new CodeView(fence[3]);
        this.code = { view, closing: closingFence(fence[2]), indentation: fence[1].length };
        this.element.append(view.element);
        this.unfinished = [];
        return at + 1;
      }
      const end = blockEnd(lines, at);
      const node = block(lines.slice(at, end), 0);
      this.element.append(node);
      if (firstOpen < 0 && mayGoOn(lines, at, end)) firstOpen = at;
      if (firstOpen >= 0) this.unfinished.push(node);
      at = end;
    }
    return firstOpen < 0 ? lines.length - 1 : firstOpen;
  }
}
