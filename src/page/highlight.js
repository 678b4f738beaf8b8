// Colours for code: a tokenizer that reads line by line and carries its state over, so that a
// block which is still being written costs each line once.

const words = (text) => new Set(text.split(' '));

const kScript = {
  line: ['//'], block: ['/*', '*/'], strings: ['"', "'", '`'], multiline: ['`'],
  keywords: words('async await break case catch class const continue debugger default delete do '
    + 'else enum export extends false finally for from function if implements import in '
    + 'instanceof interface let new null of return static super switch this throw true try '
    + 'type typeof undefined var void while yield'),
};
const kC = {
  line: ['//'], block: ['/*', '*/'], strings: ['"', "'"], directive: /^\s*#\s*\w+/,
  keywords: words('alignas auto bool break case catch char class const consteval constexpr '
    + 'continue default delete do double else enum explicit extern false float for friend if '
    + 'inline int long namespace new noexcept nullptr operator override private protected public '
    + 'return short signed sizeof static struct switch template this throw true try typedef '
    + 'typename union unsigned using virtual void volatile while __global__ __device__ '
    + '__shared__ __host__'),
};
const kGeneral = {
  line: ['//'], block: ['/*', '*/'], strings: ['"', "'", '`'],
  keywords: words('as async await break case catch class const continue default defer do else enum '
    + 'extends false final fn for fun func function go if impl implements import in interface '
    + 'let loop match mod mut new nil None null package private protected pub public range '
    + 'return self Self static struct super switch this throw trait true try type use val var '
    + 'void where while'),
};
const kPython = {
  line: ['#'], strings: ['"""', "'''", '"', "'"], multiline: ['"""', "'''"],
  keywords: words('and as assert async await break class continue def del elif else except False '
    + 'finally for from global if import in is lambda None nonlocal not or pass raise return '
    + 'self True try while with yield match case'),
};
const kShell = {
  line: ['#'], strings: ['"', "'"],
  keywords: words('case do done echo elif else esac exit export fi for function if in local read '
    + 'return set shift source then until while'),
};
const kSql = {
  line: ['--'], block: ['/*', '*/'], strings: ["'", '"'], ignoresCase: true,
  keywords: words('all and as asc between by case create delete desc distinct drop else end exists '
    + 'from group having in index inner insert into is join left like limit not null on or '
    + 'order outer primary right select set table then union unique update values view when '
    + 'where with'),
};
const kCss = {
  block: ['/*', '*/'], strings: ['"', "'"],
  keywords: words('auto block flex grid none absolute relative fixed inherit important var calc'),
};
const kData = { line: ['#'], strings: ['"', "'"], keywords: words('true false null yes no') };

const kLanguages = {
  js: kScript, javascript: kScript, jsx: kScript, ts: kScript, typescript: kScript, tsx: kScript,
  json: kScript, c: kC, h: kC, cpp: kC, 'c++': kC, cc: kC, cuda: kC, cu: kC, java: kGeneral,
  go: kGeneral, rust: kGeneral, rs: kGeneral, kotlin: kGeneral, swift: kGeneral, cs: kGeneral,
  py: kPython, python: kPython, sh: kShell, bash: kShell, shell: kShell, sql: kSql, css: kCss,
  yaml: kData, yml: kData, toml: kData, ini: kData,
};
const kMarkup = new Set(['html', 'htm', 'xml', 'svg', 'vue']);

// Steps over text up to and with `end`; false: the line ends before.
function skipTo(line, from, end) {
  for (let at = from; at < line.length; ++at) {
    if (line[at] === '\\' && end.length === 1) ++at;
    else if (line.startsWith(end, at)) return at + end.length;
  }
  return -1;
}

const kWord = /[A-Za-z_$][\w$]*/y;
const kNumber = /(?:0[xX][\da-fA-F]+|\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?)\w*/y;

function match(pattern, line, at) {
  pattern.lastIndex = at;
  return pattern.exec(line)?.[0] ?? '';
}

// One token of `language` at `at`: [kind, end]; sets state.end where it goes on in the next line.
function codeToken(language, line, at, state) {
  for (const mark of language.line ?? []) {
    if (line.startsWith(mark, at)) return ['comment', line.length];
  }
  const [open, close] = language.block ?? [];
  if (open && line.startsWith(open, at)) {
    const end = skipTo(line, at + open.length, close);
    if (end < 0) Object.assign(state, { end: close, kind: 'comment' });
    return ['comment', end < 0 ? line.length : end];
  }
  for (const quote of language.strings ?? []) {
    if (!line.startsWith(quote, at)) continue;
    const end = skipTo(line, at + quote.length, quote);
    if (end < 0 && language.multiline?.includes(quote)) {
      Object.assign(state, { end: quote, kind: 'string' });
    }
    return ['string', end < 0 ? line.length : end];
  }
  const word = match(kWord, line, at);
  if (word) {
    const end = at + word.length;
    const known = language.keywords.has(language.ignoresCase ? word.toLowerCase() : word);
    return [known ? 'keyword' : line[end] === '(' ? 'call' : '', end];
  }
  const number = match(kNumber, line, at);
  if (number) return ['number', at + number.length];
  return ['', at + 1];
}

function codeLine(language, line, state, from, out) {
  let at = from;
  const directive = from === 0 && !state.end && language.directive?.exec(line);
  if (directive) {
    out.push(['keyword', directive[0]]);
    at = directive[0].length;
  }
  while (at < line.length) {
    let kind, end;
    if (state.end) {
      kind = state.kind;
      end = skipTo(line, at, state.end);
      if (end < 0) end = line.length;
      else state.end = '';
    } else {
      [kind, end] = codeToken(language, line, at, state);
    }
    out.push([kind, line.slice(at, end)]);
    at = end;
  }
}

const kTagPart = /[\w:-]+|"[^"]*"?|'[^']*'?|\/?>|[^\w"'>/]+|./y;

// Markup, in which <script> and <style> have their own languages.
function markupLine(line, state, out) {
  let at = 0;
  while (at < line.length) {
    if (state.inside) {  // of an element with code, up to its end tag
      const close = line.toLowerCase().indexOf(`</${state.inside}`, at);
      const end = close < 0 ? line.length : close;
      const language = state.inside === 'style' ? kCss : kScript;
      codeLine(language, line.slice(0, end), state, at, out);
      at = end;
      if (close < 0) return;
      state.inside = state.end = '';
    } else if (state.end) {
      const end = skipTo(line, at, state.end);
      out.push(['comment', line.slice(at, end < 0 ? line.length : end)]);
      if (end < 0) return;
      state.end = '';
      at = end;
    } else if (state.tag) {
      const part = match(kTagPart, line, at);
      const isEnd = part === '>' || part === '/>';
      const kind = isEnd ? 'tag' : /^["']/.test(part) ? 'string' : /^\w/.test(part) ? 'attr' : '';
      out.push([kind, part]);
      if (isEnd) {
        const name = state.tag.toLowerCase();
        if (name === 'script' || name === 'style') state.inside = name;
        state.tag = '';
      }
      at += part.length;
    } else if (line.startsWith('<!--', at)) {
      state.end = '-->';
    } else {
      const tag = /^<\/?!?[A-Za-z][\w:-]*/.exec(line.slice(at, at + 80))?.[0];
      const next = tag ? at + tag.length : line.indexOf('<', at + 1);
      const end = next < 0 ? line.length : next;
      out.push([tag ? 'tag' : '', line.slice(at, end)]);
      if (tag) state.tag = tag.replace(/^<!?/, '');
      at = end;
    }
  }
}

// Reads lines of `name` one after the other.
export class Highlighter {
  constructor(name) {
    this.isMarkup = kMarkup.has(name);
    this.language = kLanguages[name];
    this.isDiff = name === 'diff' || name === 'patch';
    this.state = { end: '', kind: '', tag: '', inside: '' };
  }

  // The line as [kind, text] pairs. A line that is not complete yet leaves the state as it was.
  line(text, isComplete = true) {
    const state = isComplete ? this.state : { ...this.state };
    const out = [];
    if (text.length > 2000) return [['', text]];  // minified: colours help nobody
    if (this.isMarkup) markupLine(text, state, out);
    else if (this.language) codeLine(this.language, text, state, 0, out);
    else if (this.isDiff) out.push([{ '+': 'added', '-': 'removed' }[text[0]] ?? '', text]);
    else out.push(['', text]);
    return out;
  }
}
