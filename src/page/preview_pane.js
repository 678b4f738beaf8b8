// The pane beside the chat, in which the newest page or script runs.
import { button, h } from './dom.js';
import { Preview, previewKind } from './preview.js';

export class PreviewPane {
  constructor() {
    this.preview = new Preview();
    this.element = h('aside', { class: 'pane', 'aria-label': 'Live preview', hidden: true },
      h('header', {}, h('h2', {}, 'Live preview'), h('span', { class: 'spacer' }),
        button('Restart', () => this.preview.view && this.preview.show(this.preview.view),
          { class: 'quiet' }),
        button('✕', () => this.close(),
          { class: 'quiet', 'aria-label': 'Close the preview', title: 'Alt+P' })),
      this.preview.element);
  }

  // A block of code that is being written: shown from its first line on, as long as nobody closes
  // it.
  onCode(code) {
    if (!previewKind(code.language)) return;
    this.offer(code);
    if (code === this.preview.view) {
      this.preview.grow(code);
    } else if (!code.wasShown) {
      this.open(code);
    }
  }

  // A button on the block that shows it (again).
  offer(code) {
    if (!previewKind(code.language) || code.hasButton) return;
    code.hasButton = true;
    code.actions.prepend(button('Run', () => this.open(code), { class: 'quiet run-button' }));
    this.newest = code;
  }

  open(code) {
    code.wasShown = true;
    this.element.hidden = false;
    this.preview.show(code);
  }

  close() {
    this.preview.stop();
    this.element.hidden = true;
  }

  toggle() {
    if (!this.element.hidden) this.close();
    else if (this.newest) this.open(this.newest);
  }

  // To the keys of what runs there.
  focus() {
    this.preview.focus();
  }
}
