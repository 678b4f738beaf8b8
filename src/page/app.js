// The frame of the page: who is here, which view is shown, and the keys that work everywhere.
import { accountView, applicationView } from './account.js';
import { adminView } from './admin.js';
import { loadSession, onSession, session, setKeyPrompt } from './api.js';
import { ChatView } from './chat.js';
import { CompareView } from './compare.js';
import { loadSettings } from './conversation.js';
import { button, field, h, openDialog } from './dom.js';
import { addCommands, listenToKeys, openHelp, openPalette } from './keyboard.js';
import { keysView } from './keys.js';
import { applyTheme, openSettings, toggleTheme } from './settings.js';
import { usageView } from './usage.js';

const main = document.getElementById('main');
const navigation = document.getElementById('navigation');
let chat = null, compare = null, shownHash = '';

const isUser = () => session.offer && session.account !== null;
const isAdministrator = () => isUser() && session.account.is_administrator;

// [path, title, whether it is offered, its element]. The chat and the comparison go on unseen.
const kViews = [
  ['chat', 'Chat', () => true, () => chat.element],
  ['best-of', 'Best of N', () => true, () => compare.element],
  ['application', 'Application', () => session.offer && !isAdministrator(), applicationView],
  ['keys', 'Keys', isUser, keysView],
  ['usage', 'Usage', isUser, usageView],
  ['admin', 'Administration', isAdministrator, adminView],
  ['account', 'Account', () => session.offer, accountView],
];

function currentPath() {
  const [path, part] = location.hash.replace(/^#\//, '').split('/');
  const view = kViews.find(([name, , isOffered]) => name === path && isOffered()) ?? kViews[0];
  return { view, part };
}

function showNavigation() {
  const { view } = currentPath();
  navigation.replaceChildren(...kViews.filter(([, , isOffered]) => isOffered())
    .map(([path, title]) => h('a', { href: `#/${path}`,
      'aria-current': path === view[0] && 'page' },
    path === 'account' ? session.account?.name ?? 'Log in' : title)));
}

async function showView() {
  const hash = location.hash;
  shownHash = hash;
  const { view, part } = currentPath();
  showNavigation();
  document.title = `${view[1]} · UltraSpeed`;
  let element;
  try {
    element = await view[3](part);
  } catch (error) {
    element = h('section', { class: 'sheet' }, h('h1', {}, view[1]),
      h('p', { class: 'problem', role: 'alert' }, error.message),
      button('Try again', showView));
  }
  if (location.hash !== hash) return;  // another one was asked for meanwhile
  main.replaceChildren(element);
  if (view[0] === 'chat') chat.focus();
  else if (view[0] === 'best-of') compare.focus();
  else main.focus();
}

function go(path) {
  location.hash = `#/${path}`;
}

function askForKey(wasWrong) {
  return new Promise((resolve) => {
    const input = h('input', { type: 'password', autocomplete: 'off', required: true });
    const form = h('form', { class: 'stacked', onsubmit: (event) => {
      event.preventDefault();
      resolve(input.value.trim());
      dialog.close();
    } }, h('p', {}, wasWrong ? 'The server does not take that key.'
      : 'This server wants an API key. It is kept until the page is closed.'),
    field('API key', input), h('div', {}, h('button', { type: 'submit', class: 'primary' },
      'Use it')));
    const dialog = openDialog('API key', form, { onclose: () => resolve('') });
    input.focus();
  });
}

function commands() {
  const isComparing = currentPath().view[0] === 'best-of';
  return [
    { name: 'All commands', keys: 'Control+K', run: openPalette },
    { name: 'Keys', keys: '?', run: openHelp },
    { name: 'Write a message', keys: '/', run: () => {
      if (isComparing) return compare.focus();
      go('chat');
      return chat.focus();
    } },
    { name: 'Stop', keys: 'Escape', run: () => (isComparing ? compare : chat).stop() },
    { name: 'New conversation', keys: 'Alt+N', run: () => {
      go('chat');
      chat.clear();
    } },
    { name: 'Open or close the preview', keys: 'Alt+P', run: () => chat.pane.toggle() },
    { name: 'Into the preview', keys: 'Alt+J', run: () => chat.pane.focus() },
    ...kViews.filter(([, , isOffered]) => isOffered()).map(([path, title], i) =>
      ({ name: `Go to ${title}`, keys: `Alt+${i + 1}`, run: () => go(path) })),
    { name: 'Light or dark', keys: 'Alt+T', run: toggleTheme },
    { name: 'Settings', keys: 'Alt+S', run: openSettings },
    { name: 'Export as Markdown', run: () => chat.exportAs('md') },
    { name: 'Export as JSON', run: () => chat.exportAs('json') },
    ...(isComparing ? compare.commands() : []),
  ];
}

async function begin() {
  loadSettings();
  applyTheme();
  setKeyPrompt(askForKey);
  document.getElementById('help-button').addEventListener('click', openHelp);
  document.getElementById('palette-button').addEventListener('click', openPalette);
  document.getElementById('theme-button').addEventListener('click', toggleTheme);
  try {
    await loadSession();
  } catch (error) {
    main.replaceChildren(h('section', { class: 'sheet' }, h('h1', {}, 'No server'),
      h('p', { role: 'alert' }, error.message), button('Try again', () => location.reload())));
    return;
  }
  chat = new ChatView();
  compare = new CompareView((question, answer) => {
    chat.adopt(question, answer);
    go('chat');
  }, () => {
    if (!chat.queue.mayChat) chat.queue.explain();
    return chat.queue.mayChat;
  });
  addCommands(commands);
  listenToKeys();
  // Who logs in or out may see other views, and others' content has to go.
  let owner = session.account?.name;
  onSession(() => {
    showNavigation();
    if (session.account?.name === owner) return;
    owner = session.account?.name;
    compare.reset();
    showView();
  });
  window.addEventListener('hashchange', () => {
    if (location.hash !== shownHash) showView();
  });
  showView();
}

begin();
