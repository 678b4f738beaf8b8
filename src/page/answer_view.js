// One answer while it comes: its thinking folded, its text, its code, its speed.
import { h, integer } from './dom.js';
import { MarkdownView } from './markdown.js';
import { Meter, MeterView } from './meter.js';

export class AnswerView {
  // onCode(view): a block of code has begun, grown or ended.
  constructor({ onCode, tier } = {}) {
    this.tier = tier;
    this.content = '';
    this.reasoning = '';
    this.pending = { content: '', reasoning: '' };
    this.meter = new Meter();
    this.meterView = new MeterView();
    this.text = new MarkdownView(onCode);
    this.thoughts = new MarkdownView();
    this.summary = h('summary', {}, 'Thinking');
    this.thinking = h('details', { class: 'thinking', hidden: true }, this.summary,
      this.thoughts.element);
    this.note = h('p', { class: 'answer-note', hidden: true });
    this.waiting = h('p', { class: 'waiting' }, 'Waiting for the first token');
    this.element = h('div', { class: 'answer' }, this.thinking, this.text.element, this.waiting,
      this.note, this.meterView.element);
  }

  // An answer that is there already.
  static of(message, options) {
    const view = new AnswerView(options);
    view.pending = { content: message.content, reasoning: message.reasoning ?? '' };
    view.content = message.content;
    view.reasoning = message.reasoning ?? '';
    view.finish({ isOld: true });
    return view;
  }

  // A choice's delta, with the chunk it came in.
  take(chunk, choice) {
    this.meter.take({ ...chunk, choices: choice ? [choice] : [] });
    if (!choice) return;
    const { content = '', reasoning_content: reasoning = '' } = choice.delta ?? {};
    this.content += content ?? '';
    this.reasoning += reasoning ?? '';
    this.pending.content += content ?? '';
    this.pending.reasoning += reasoning ?? '';
    if (choice.finish_reason) this.finishReason = choice.finish_reason;
    if (chunk.service_tier) this.tier = chunk.service_tier;
  }

  // Shows what has come since the last time; once a frame is enough.
  flush() {
    const { content, reasoning } = this.pending;
    this.pending = { content: '', reasoning: '' };
    if (reasoning) {
      this.thinking.hidden = false;
      this.thoughts.push(reasoning);
    }
    if (content) {
      if (this.reasoning && !this.text.element.hasChildNodes()) this.endThinking();
      this.text.push(content);
    }
    if (this.content || this.reasoning) this.waiting.remove();
    if (reasoning && !this.content) {
      this.summary.textContent = `Thinking · ${integer(this.meter.numbers().tokens)} tokens`;
    }
    this.meterView.show(this.meter, { tier: this.tier });
  }

  endThinking() {
    const { seconds } = this.meter.numbers();
    this.summary.textContent = `Thought for ${seconds.toFixed(1)} s`;
    this.thoughts.finish();
  }

  // `note`: how it ended, if not by itself.
  finish({ note = '', isOld = false } = {}) {
    this.flush();
    this.text.finish();
    this.thoughts.finish();
    if (isOld) this.summary.textContent = 'Thinking';
    this.waiting.remove();
    const cut = { length: 'Cut off at the limit of tokens.', deadline: 'Cut off by its deadline.' };
    const text = note || cut[this.finishReason] || '';
    this.note.textContent = text;
    this.note.hidden = !text;
    if (!isOld) this.meterView.show(this.meter, { isDone: true, tier: this.tier });
  }

  // What a conversation keeps of it.
  message(model) {
    const numbers = this.meter.numbers();
    return {
      role: 'assistant',
      content: this.content,
      ...(this.reasoning && { reasoning: this.reasoning }),
      meta: {
        model,
        ...(this.tier && { tier: this.tier }),
        finish_reason: this.finishReason ?? 'stopped',
        tokens: numbers.tokens,
        tokens_per_second: Math.round(numbers.rate * 10) / 10,
        accepted_length: Math.round(numbers.accepted * 100) / 100,
      },
    };
  }
}

// Calls `show` before each frame that the browser paints, until the function it returns is called.
// Where nothing is painted (a hidden tab), twice a second.
export function eachFrame(show) {
  let isOver = false, frame = 0;
  const run = () => {
    if (isOver) return;
    show();
    frame = requestAnimationFrame(run);
  };
  frame = requestAnimationFrame(run);
  const timer = setInterval(() => { if (document.hidden && !isOver) show(); }, 500);
  return () => {
    isOver = true;
    cancelAnimationFrame(frame);
    clearInterval(timer);
  };
}
