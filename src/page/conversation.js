// What was said, kept for this tab and account, and what of it goes into requests and files.
import { session } from './api.js';

const kStore = 'ultraspeed.conversation';
const kSettings = 'ultraspeed.settings';

export const conversation = { messages: [], draft: null };

const owner = () => session.account?.name ?? '';

export function save() {
  try {
    sessionStorage.setItem(kStore, JSON.stringify({ owner: owner(),
      messages: conversation.messages }));
  } catch { /* full or forbidden: it lives as long as the page */ }
}

// What this account said in this tab before; others' conversations are forgotten.
export function load() {
  conversation.messages = [];
  try {
    const stored = JSON.parse(sessionStorage.getItem(kStore));
    if (stored?.owner === owner() && Array.isArray(stored.messages)) {
      conversation.messages = stored.messages.filter((message) =>
        ['user', 'assistant'].includes(message?.role) && typeof message.content === 'string');
    } else {
      sessionStorage.removeItem(kStore);
    }
  } catch { /* nothing that can be read */ }
}

export const settings = {
  system: '', temperature: '', maxTokens: '', thinking: '', model: '', theme: '',
};

export function loadSettings() {
  try {
    const stored = JSON.parse(localStorage.getItem(kSettings)) ?? {};
    for (const name of Object.keys(settings)) {
      if (typeof stored[name] === 'string') settings[name] = stored[name];
    }
  } catch { /* the defaults */ }
}

export function saveSettings() {
  try {
    localStorage.setItem(kSettings, JSON.stringify(settings));
  } catch { /* they live as long as the page */ }
}

// The model that requests name: the chosen one, or the fastest there is.
export function currentModel() {
  const { models } = session;
  return models.find(({ id }) => id === settings.model)
    ?? models.find(({ tier }) => tier === 'fast') ?? models[0] ?? { id: '' };
}

// A chat request for these messages.
export function requestFor(messages) {
  const system = settings.system.trim();
  const body = {
    model: currentModel().id,
    messages: [
      ...(system ? [{ role: 'system', content: system }] : []),
      ...messages.map(({ role, content, reasoning }) => ({ role, content,
        ...(reasoning && { reasoning_content: reasoning }) })),
    ],
  };
  if (settings.temperature !== '') body.temperature = Number(settings.temperature);
  if (settings.maxTokens !== '') body.max_tokens = Number(settings.maxTokens);
  if (settings.thinking) {
    body.chat_template_kwargs = { enable_thinking: settings.thinking === 'on' };
  }
  return body;
}

export function asJson() {
  return `${JSON.stringify({ exported: new Date().toISOString(), model: currentModel().id,
    system: settings.system, messages: conversation.messages }, null, 2)}\n`;
}

// A fence that is longer than any in the text.
function fenced(text) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}text\n${text}\n${fence}`;
}

export function asMarkdown() {
  const parts = ['# Conversation'];
  if (settings.system) parts.push('## System', settings.system);
  for (const { role, content, reasoning, meta } of conversation.messages) {
    parts.push(role === 'user' ? '## You' : `## ${meta?.model ?? 'Assistant'}`);
    if (reasoning) parts.push('Thinking:', fenced(reasoning));
    parts.push(content);
  }
  return `${parts.join('\n\n')}\n`;
}
