// Everything by keyboard: commands with their keys, a palette that finds them, and a list of all.
import { h, openDialog } from './dom.js';

// [{name, keys?, run}]; keys as "Alt+N", "/", "?", "Control+K". From views and from the frame.
let commandSources = [];

export function addCommands(source) {
  commandSources.push(source);
}

const commands = () => commandSources.flatMap((source) => source());

const kAlways = [
  ['Enter', 'Send the message'], ['Shift+Enter', 'A new line'],
  ['Esc', 'Stop the answer, close a dialog'], ['↑', 'In an empty message: edit your last one'],
  ['1 to 9', 'In Best of N, outside of the text: pick a candidate'],
];

function isTyping(target) {
  return target instanceof HTMLElement && (target.matches('input, textarea, select')
    || target.isContentEditable);
}

function pressed(event) {
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push('Control');
  if (event.altKey) parts.push('Alt');
  const key = event.altKey && /^Key[A-Z]$/.test(event.code) ? event.code.slice(3)
    : event.altKey && /^Digit\d$/.test(event.code) ? event.code.slice(5) : event.key;
  parts.push(key.length === 1 ? key.toUpperCase() : key);
  return parts.join('+');
}

export function openHelp() {
  const rows = [...kAlways,
    ...commands().filter(({ keys }) => keys).map(({ keys, name }) =>
      [keys.replace('Control', 'Ctrl'), name])];
  openDialog('Keys', h('table', { class: 'keys-table' }, h('tbody', {}, rows.map(([keys, name]) =>
    h('tr', {}, h('th', { scope: 'row' }, keys.split('+').map((key) => h('kbd', {}, key))),
      h('td', {}, name))))));
}

export function openPalette() {
  const input = h('input', { type: 'text', role: 'combobox', 'aria-expanded': 'true',
    'aria-controls': 'palette-list', 'aria-label': 'Command', placeholder: 'What to do?',
    autocomplete: 'off' });
  const list = h('ul', { id: 'palette-list', role: 'listbox', 'aria-label': 'Commands' });
  const dialog = openDialog('Commands', [input, list]);
  let shown = [], chosen = 0;
  const run = (command) => {
    dialog.close();
    command?.run();
  };
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    shown = commands().filter(({ name }) =>
      words.every((word) => name.toLowerCase().includes(word)));
    chosen = Math.min(chosen, Math.max(shown.length - 1, 0));
    list.replaceChildren(...shown.map((command, i) => h('li', { id: `command-${i}`,
      role: 'option', 'aria-selected': String(i === chosen), onclick: () => run(command) },
    command.name, command.keys && h('kbd', {}, command.keys.replace('Control', 'Ctrl')))));
    input.setAttribute('aria-activedescendant', shown.length > 0 ? `command-${chosen}` : '');
    list.children[chosen]?.scrollIntoView({ block: 'nearest' });
  };
  input.addEventListener('input', () => {
    chosen = 0;
    show();
  });
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') {
      event.preventDefault();
      run(shown[chosen]);
    } else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      const step = event.key === 'ArrowDown' ? 1 : -1;
      chosen = (chosen + step + shown.length) % Math.max(shown.length, 1);
      show();
    }
  });
  show();
  input.focus();
}

export function listenToKeys() {
  document.addEventListener('keydown', (event) => {
    if (event.isComposing) return;
    const keys = pressed(event);
    const hasModifier = keys.includes('+') && keys !== '+';
    // A dialog has the keys to itself, and letters belong to whoever is typing.
    if (document.querySelector('dialog[open]')) return;
    if (!hasModifier && keys !== 'Escape' && isTyping(event.target)) return;
    const command = commands().find((one) => one.keys === keys);
    if (!command) return;
    event.preventDefault();
    command.run();
  });
}
