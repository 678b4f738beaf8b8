// Best of N: candidates of one question side by side while they stream, one of which is picked.
import { onSession, session, streamChat } from './api.js';
import { AnswerView, eachFrame } from './answer_view.js';
import { conversation, currentModel, requestFor } from './conversation.js';
import { announce, button, h, integer } from './dom.js';
import { Meter, MeterView } from './meter.js';
import { modelChoice } from './settings.js';
import { Preview, previewKind } from './preview.js';

const kCounts = [2, 3, 4, 6, 8];

// A candidate: its text, or what its code does.
class Card {
  constructor(number, pick, tier) {
    this.preview = new Preview();
    this.view = new AnswerView({ tier, onCode: (code) => this.onCode(code) });
    this.frame = h('div', { class: 'card-preview', hidden: true }, this.preview.element);
    this.toggle = button('Text', () => this.show(!this.frame.hidden), { class: 'quiet',
      hidden: true });
    this.pickButton = button('Pick', pick, { 'aria-label': `Pick ${number}`,
      title: `Key ${number}` });
    this.state = h('span', { class: 'card-state' }, 'waiting');
    this.element = h('article', { class: 'card', 'aria-label': `Candidate ${number}` },
      h('header', {}, h('h2', {}, `Candidate ${number}`), this.state,
        h('span', { class: 'spacer' }), this.toggle, this.pickButton),
      this.frame, h('div', { class: 'card-text' }, this.view.element));
  }

  show(asText) {
    this.frame.hidden = asText;
    this.view.element.parentElement.hidden = !asText;
    this.toggle.textContent = asText ? 'Preview' : 'Text';
  }

  onCode(code) {
    if (!previewKind(code.language)) return;
    if (code !== this.preview.view) {
      if (code.wasShown) return;
      code.wasShown = true;
      this.toggle.hidden = false;
      this.preview.show(code);
      this.show(false);
    } else {
      this.preview.grow(code);
    }
  }

  take(chunk, choice) {
    this.view.take(chunk, choice);
    this.state.textContent = choice.finish_reason ? 'complete' : 'writing';
  }

  finish(note) {
    this.view.finish({ note: this.view.finishReason ? '' : note });
    if (!this.view.finishReason) this.state.textContent = note ? 'stopped' : 'complete';
  }
}

export class CompareView {
  // adopt(question, message): takes the picked one into the chat.
  constructor(adopt, mayChat) {
    this.adopt = adopt;
    this.mayChat = mayChat;
    this.cards = [];
    this.controller = null;
    this.input = h('textarea', { rows: 2, 'aria-label': 'Question',
      placeholder: 'One question, several answers' });
    this.count = h('select', { 'aria-label': 'How many' }, kCounts.map((count) =>
      h('option', { value: count, selected: count === 4 }, `${count} candidates`)));
    this.models = h('span');
    this.runButton = button('Run', () => this.run(), { class: 'primary' });
    this.stopButton = button('Stop', () => this.stop(), { class: 'danger', hidden: true });
    this.total = new MeterView();
    this.grid = h('div', { class: 'cards' });
    const form = h('form', { class: 'composer', onsubmit: (event) => event.preventDefault() },
      this.input, h('div', { class: 'composer-bar' }, this.models, this.count,
        this.total.element, h('span', { class: 'spacer' }), this.stopButton, this.runButton));
    this.element = h('section', { class: 'compare', 'aria-label': 'Best of N' }, form, this.grid);
    this.input.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.run();
    });
    onSession(() => this.models.replaceChildren(modelChoice()));
    this.models.replaceChildren(modelChoice());
  }

  focus() {
    this.input.focus();
  }

  commands() {
    return this.cards.map((card, i) => ({ name: `Pick candidate ${i + 1}`, keys: String(i + 1),
      run: () => this.pick(i) }));
  }

  setRunning(isRunning) {
    this.runButton.hidden = isRunning;
    this.stopButton.hidden = !isRunning;
  }

  reset() {
    this.stop();
    for (const card of this.cards) card.preview.stop();
    this.cards = [];
    this.grid.replaceChildren();
  }

  async run() {
    const question = this.input.value.trim();
    if (!question || !this.mayChat()) return;
    this.reset();
    const n = Number(this.count.value);
    const model = currentModel();
    this.model = model.id;
    this.history = [...conversation.messages, { role: 'user', content: question }];
    this.question = question;
    this.cards = Array.from({ length: n }, (_, i) =>
      new Card(i + 1, () => this.pick(i), model.tier));
    this.grid.replaceChildren(...this.cards.map(({ element }) => element));
    this.grid.dataset.count = n;
    const controller = new AbortController();
    this.controller = controller;
    this.setRunning(true);
    announce(`${n} candidates begin`);
    const { cards } = this;
    const meter = new Meter();
    const stopFrames = eachFrame(() => {
      for (const card of cards) card.view.flush();
      this.total.show(meter);
    });
    let note = '';
    try {
      const request = { ...requestFor(this.history), n };
      for await (const chunk of streamChat(request, controller.signal)) {
        meter.take(chunk);
        for (const choice of chunk.choices) cards[choice.index]?.take(chunk, choice);
      }
    } catch (error) {
      note = error.name === 'AbortError' ? 'Stopped.' : error.message;
    }
    stopFrames();
    for (const card of cards) card.finish(note);
    if (this.controller !== controller) return;
    this.controller = null;
    this.total.show(meter, { isDone: true });
    this.setRunning(false);
    announce(note || `All candidates are complete: ${integer(meter.numbers().tokens)} tokens`);
  }

  stop() {
    this.controller?.abort();
  }

  pick(index) {
    const card = this.cards[index];
    if (!card || (!card.view.content && !card.view.reasoning)) return;
    const message = card.view.message(this.model);
    const { question } = this;
    this.reset();
    this.input.value = '';
    this.adopt(question, message);
    announce(`Candidate ${index + 1} was picked`);
  }
}

