// The chat: messages, the composer, and the preview beside them.
import { onSession, session, streamChat } from './api.js';
import { AnswerView, eachFrame } from './answer_view.js';
import { asJson, asMarkdown, conversation, currentModel, load, requestFor, save }
  from './conversation.js';
import { announce, button, copyButton, download, h, integer, toast } from './dom.js';
import { modelChoice, openSettings } from './settings.js';
import { PreviewPane } from './preview_pane.js';
import { QueueBar } from './queue.js';

const kNearEnd = 80;  // pixels

export class ChatView {
  constructor() {
    this.running = null;  // {controller} of an answer that comes
    this.pane = new PreviewPane();
    this.log = h('div', { class: 'log', role: 'log', 'aria-label': 'Conversation',
      'aria-live': 'off', tabindex: '-1' });
    this.scroller = h('div', { class: 'scroller' }, this.log);
    this.input = h('textarea', { rows: 1, 'aria-label': 'Message', name: 'message',
      placeholder: 'Ask anything, or ask for a page or a game' });
    this.sendButton = button('Send', () => this.submit(), { class: 'primary' });
    this.stopButton = button('Stop', () => this.stop(), { class: 'danger', hidden: true,
      title: 'Esc' });
    this.queue = new QueueBar();
    this.models = h('span');
    this.element = h('section', { class: 'chat', 'aria-label': 'Chat' },
      h('div', { class: 'chat-main' }, this.scroller, this.makeComposer()),
      this.pane.element);
    this.input.addEventListener('keydown', (event) => this.onKey(event));
    this.input.addEventListener('input', () => this.resize());
    this.owner = undefined;
    onSession(() => this.onSession());
    this.onSession();
    this.queue.begin(() => this.updateComposer());
  }

  onSession() {
    const owner = session.account?.name ?? '';
    if (owner !== this.owner) {
      this.owner = owner;
      this.stop();
      load();
      this.pane.close();
      this.render();
    }
    this.models.replaceChildren(modelChoice());
    this.updateComposer();
  }

  makeComposer() {
    const bar = h('div', { class: 'composer-bar' },
      this.models,
      button('Settings', openSettings, { class: 'quiet' }),
      button('New', () => this.clear(), { class: 'quiet', title: 'Alt+N' }),
      button('Export', () => this.exportAs('md'), { class: 'quiet', title: 'As Markdown' }),
      button('JSON', () => this.exportAs('json'), { class: 'quiet',
        'aria-label': 'Export as JSON' }),
      h('span', { class: 'spacer' }), this.stopButton, this.sendButton);
    return h('form', { class: 'composer', onsubmit: (event) => {
      event.preventDefault();
      this.submit();
    } }, this.queue.element, this.input, bar);
  }

  focus() {
    this.input.focus();
  }

  updateComposer() {
    const isRunning = this.running !== null;
    this.sendButton.hidden = isRunning;
    this.stopButton.hidden = !isRunning;
    this.sendButton.disabled = !this.queue.mayChat;
  }

  onKey(event) {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit();
    } else if (event.key === 'ArrowUp' && this.input.value === '') {
      const buttons = this.log.querySelectorAll('.edit-button');
      if (buttons.length === 0) return;
      event.preventDefault();
      buttons[buttons.length - 1].click();
    }
  }

  resize() {
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight, 240)}px`;
  }

  submit() {
    const content = this.input.value.trim();
    if (!content || this.running) return;
    if (!this.queue.mayChat) {
      this.queue.explain();
      return;
    }
    this.input.value = '';
    this.resize();
    this.say(content);
  }

  say(content) {
    conversation.messages.push({ role: 'user', content });
    this.appendMessage(conversation.messages.length - 1);
    this.answer();
  }

  clear() {
    this.stop();
    conversation.messages = [];
    save();
    this.pane.close();
    this.render();
    this.focus();
  }

  exportAs(kind) {
    if (conversation.messages.length === 0) {
      toast('There is nothing to export yet.');
    } else if (kind === 'json') {
      download('conversation.json', 'application/json', asJson());
    } else {
      download('conversation.md', 'text/markdown', asMarkdown());
    }
  }

  // Drops what came behind the message at `index`, which is said in other words, or again.
  resend(index, content) {
    this.stop();
    conversation.messages.length = index;
    this.render();
    this.say(content);
  }

  render() {
    this.log.replaceChildren();
    if (conversation.messages.length === 0) this.log.append(this.welcome());
    conversation.messages.forEach((_, index) => this.appendMessage(index));
  }

  welcome() {
    const ideas = ['Write a small game of Snake in one HTML page',
      'Explain speculative decoding in five sentences', 'Plot a sine wave in an HTML page'];
    return h('div', { class: 'welcome' }, h('h1', {}, 'What shall it be?'),
      h('p', {}, 'HTML and JavaScript run beside the chat while they are written.'),
      h('div', { class: 'ideas' }, ideas.map((idea) => button(idea, () => {
        this.input.value = idea;
        this.resize();
        this.focus();
      }))));
  }

  appendMessage(index) {
    this.log.querySelector('.welcome')?.remove();
    const message = conversation.messages[index];
    this.log.append(message.role === 'user' ? this.userElement(index)
      : this.answerElement(index, AnswerView.of(message,
        { onCode: (code) => this.pane.offer(code) })));
  }

  userElement(index) {
    const { content } = conversation.messages[index];
    const element = h('article', { class: 'message user', 'aria-label': 'You' },
      h('div', { class: 'user-text' }, content),
      h('div', { class: 'message-actions' },
        button('Edit', () => this.edit(index, element), { class: 'quiet edit-button' }),
        copyButton(content)));
    return element;
  }

  edit(index, element) {
    const { content } = conversation.messages[index];
    const input = h('textarea', { rows: 4, 'aria-label': 'Edit your message', value: content });
    const cancel = () => {
      element.replaceWith(this.userElement(index));
      this.focus();
    };
    const send = () => input.value.trim() && this.resend(index, input.value.trim());
    input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
        this.focus();
      } else if (event.key === 'Escape') {
        event.stopPropagation();
        cancel();
      }
    });
    element.replaceChildren(input, h('div', { class: 'message-actions' },
      button('Send again', send, { class: 'primary' }), button('Cancel', cancel)));
    input.focus();
  }

  answerElement(index, view) {
    const retry = () => {
      const question = conversation.messages[index - 1];
      if (question?.role === 'user') this.resend(index - 1, question.content);
    };
    return h('article', { class: 'message assistant', 'aria-label': 'Answer' }, view.element,
      h('div', { class: 'message-actions' }, copyButton(() => view.content),
        button('Again', retry, { class: 'quiet' })));
  }

  async answer() {
    this.stop();
    const model = currentModel();
    const controller = new AbortController();
    this.running = { controller };
    this.updateComposer();
    const view = new AnswerView({ tier: model.tier, onCode: (code) => this.pane.onCode(code) });
    const index = conversation.messages.length;
    const element = this.answerElement(index, view);
    element.classList.add('is-running');
    this.log.append(element);
    this.scroller.scrollTop = this.scroller.scrollHeight;
    announce('The answer begins');
    const stopFrames = eachFrame(() => this.keepAtEnd(() => view.flush()));
    let note = '';
    try {
      for await (const chunk of streamChat(requestFor(conversation.messages), controller.signal)) {
        view.take(chunk, chunk.choices[0]);
      }
    } catch (error) {
      note = error.name === 'AbortError' ? 'Stopped.' : `${error.message}${
        error.retryAfter ? ` Try again in ${error.retryAfter} s.` : ''}`;
      if (error.name !== 'AbortError') element.classList.add('has-failed');
    }
    stopFrames();
    this.keepAtEnd(() => view.finish({ note }));
    element.classList.remove('is-running');
    this.keep(index, view, model.id, controller);
    announce(note || `The answer is complete: ${integer(view.meter.numbers().tokens)} tokens`);
  }

  // An answer that was replaced meanwhile is not kept.
  keep(index, view, model, controller) {
    if (this.running?.controller !== controller) return;
    this.running = null;
    const hasText = view.content !== '' || view.reasoning !== '';
    if (conversation.messages.length === index && hasText) {
      conversation.messages.push(view.message(model));
    }
    save();
    this.updateComposer();
    this.queue.refresh();
  }

  // Takes a picked candidate of the comparison as if it had been said here.
  adopt(question, answer) {
    this.stop();
    conversation.messages.push({ role: 'user', content: question }, answer);
    save();
    this.render();
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  stop() {
    this.running?.controller.abort();
  }

  // Follows the text as long as its end is in sight.
  keepAtEnd(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < kNearEnd;
    change();
    if (isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}
