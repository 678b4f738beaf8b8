// A block of code that grows: coloured line by line, with a head that says what it is.
import { copyButton, h } from './dom.js';
import { Highlighter } from './highlight.js';

function coloured(pairs) {
  const fragment = document.createDocumentFragment();
  let plain = '';
  const flush = () => {
    if (plain) fragment.append(plain);
    plain = '';
  };
  for (const [kind, text] of pairs) {
    if (!kind) {
      plain += text;
      continue;
    }
    flush();
    fragment.append(h('span', { class: `tok-${kind}` }, text));
  }
  flush();
  return fragment;
}

export class CodeView {
  // `info`: what stands behind the opening fence.
  constructor(info) {
    this.language = (/^[\w+#.-]{1,20}/.exec(info.trim())?.[0] ?? '').toLowerCase();
    this.text = '';       // all complete lines
    this.isComplete = false;
    this.highlighter = new Highlighter(this.language);
    this.lines = h('span');
    this.last = h('span');  // a line that is still being written
    this.actions = h('span', { class: 'code-actions' }, copyButton(() => this.source()));
    const name = this.language || 'text';
    this.element = h('figure', { class: 'code' },
      h('figcaption', {}, h('span', {}, name), this.actions),
      h('pre', { tabindex: '0', 'aria-label': `Code, ${name}` },
        h('code', {}, this.lines, this.last)));
  }

  source() {
    return this.text + this.last.textContent;
  }

  addLine(line) {
    this.text += `${line}\n`;
    this.lines.append(coloured(this.highlighter.line(line)), '\n');
    this.last.textContent = '';
  }

  setLast(line) {
    this.last.replaceChildren(coloured(this.highlighter.line(line, false)));
  }

  finish() {
    this.isComplete = true;
  }
}
