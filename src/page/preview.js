// A frame that runs what a model writes while it is written. Nothing in it is trusted: it has an
// origin of its own, and CSP takes network, forms and storage away from it (docs/page.md).
import { button, h } from './dom.js';

const kPingMs = 1000;
const kSilenceMs = 3000;  // after which the frame is taken for one that does not end
const kMaxMessages = 1000;  // between two pings: more would keep this page busy
const kMaxLines = 200;    // of its console

const kDocuments = new Set(['html', 'htm', 'svg']);
const kScripts = new Set(['js', 'javascript']);

// How a block of code is shown; null: it is not.
export function previewKind(language) {
  return kDocuments.has(language) ? 'document' : kScripts.has(language) ? 'script' : null;
}

// Whether a message came from the frame, or one inside of it.
function isFrom(source, frame) {
  for (let from = source; from && from !== window; from = from.parent) {
    if (from === frame.contentWindow) return true;
  }
  return false;
}

// One frame and the channel to it. on: {message(kind, text), stuck(why)}
class Frame {
  constructor(on) {
    this.on = on;
    this.queue = [];
    this.isReady = false;
    this.lastAnswer = 0;
    this.numMessages = 0;
    this.element = h('iframe', { title: 'Live preview', sandbox: 'allow-scripts',
      src: '/preview', referrerpolicy: 'no-referrer', allow: '' });
    this.element.addEventListener('load', () => this.connect(), { once: true });
    this.timer = setInterval(() => this.ping(), kPingMs);
    // What runs there can always post to this window. Nobody listens, but much of it takes time.
    this.listener = ({ source }) => { if (isFrom(source, this.element)) this.count(); };
    window.addEventListener('message', this.listener);
    this.post({ open: true });
  }

  connect() {
    const channel = new MessageChannel();
    this.port = channel.port1;
    this.port.onmessage = ({ data }) => this.take(data);
    // The frame's origin has no name that could be said here.
    this.element.contentWindow.postMessage('connect', '*', [channel.port2]);
  }

  count() {
    if (++this.numMessages === kMaxMessages) this.end('The preview sent too many messages');
  }

  take(data) {
    this.count();
    this.lastAnswer = performance.now();
    if (data?.kind === 'ready') {
      this.isReady = true;
      for (const message of this.queue) this.port.postMessage(message);
      this.queue = [];
    } else if (typeof data?.text === 'string') {
      this.on.message(String(data.kind), data.text.slice(0, 2000));
    }
  }

  post(message) {
    if (this.isReady) this.port.postMessage(message);
    else this.queue.push(message);
  }

  ping() {
    if (!this.isReady) return;
    if (document.hidden) {  // where timers and frames may sleep
      this.lastAnswer = performance.now();
    } else if (performance.now() - this.lastAnswer > kSilenceMs) {
      this.end('The preview did not answer for 3 seconds');
      return;
    }
    this.numMessages = 0;
    this.port.postMessage({ ping: 1 });
  }

  end(why) {
    this.remove();
    this.on.stuck(why);
  }

  remove() {
    window.removeEventListener('message', this.listener);
    clearInterval(this.timer);
    this.port?.close();
    this.element.remove();
  }
}

// A frame with its console, for one block of code at a time.
export class Preview {
  constructor() {
    this.view = null;
    this.frame = null;
    this.holder = h('div', { class: 'frame-holder' });
    this.console = h('div', { class: 'console', role: 'log', 'aria-label': 'Console', hidden: true,
      tabindex: '0' });
    this.element = h('div', { class: 'preview' }, this.holder, this.console);
  }

  // Shows the block from its begin, and what will be added to it with grow().
  show(view) {
    this.view = view;
    this.sent = 0;  // characters
    this.isEnded = false;
    this.isScript = previewKind(view.language) === 'script';
    this.frame?.remove();
    this.console.replaceChildren();
    this.console.hidden = true;
    this.frame = new Frame({
      message: (kind, text) => this.log(kind, text),
      stuck: (why) => this.showStuck(why),
    });
    this.holder.replaceChildren(this.frame.element);
    if (this.isScript) this.frame.post({ write: '<!doctype html><meta charset="utf-8"><script>' });
    this.grow(view);
  }

  grow(view) {
    if (view !== this.view || !this.frame || this.isEnded) return;
    // Scripts run when they are complete; documents are written as they come.
    if (!this.isScript || view.isComplete) {
      const text = view.isComplete ? view.source() : view.text;
      if (text.length > this.sent) this.frame.post({ write: text.slice(this.sent) });
      this.sent = text.length;
    }
    if (!view.isComplete) return;
    this.frame.post({ write: this.isScript ? '</script>' : '', close: true });
    this.isEnded = true;
  }

  log(kind, text) {
    if (kind === 'pong' || this.console.childElementCount >= kMaxLines) return;
    this.console.hidden = false;
    this.console.append(h('div', { class: `console-${kind === 'log' ? 'log' : 'error'}` },
      kind === 'blocked' ? `blocked: ${text}` : text));
    this.console.scrollTop = this.console.scrollHeight;
  }

  showStuck(why) {
    const { view } = this;
    this.frame = null;
    this.holder.replaceChildren(h('div', { class: 'stuck', role: 'alert' },
      h('p', {}, `${why} and was stopped.`),
      button('Run it again', () => this.show(view), { class: 'primary' })));
  }

  focus() {
    this.frame?.element.focus();
  }

  stop() {
    this.frame?.remove();
    this.frame = null;
    this.view = null;
  }
}
