// The choice of the model, and what every request says beside the messages.
import { session } from './api.js';
import { currentModel, saveSettings, settings } from './conversation.js';
import { field, h, openDialog } from './dom.js';
import { tierName } from './meter.js';

function modelLabel({ id, tier, multiplier }) {
  if (!tier) return id;
  return `${id} · ${tierName(tier)}${multiplier ? ` · ${multiplier}×` : ''}`;
}

// A select where there is a choice, else the model's name.
export function modelChoice() {
  const current = currentModel();
  if (session.models.length < 2) return h('span', { class: 'model-name' }, current.id);
  const weights = session.models.find(({ id }) => id === current.id)?.weights;
  return h('select', { 'aria-label': 'Model', title: weights, onchange: (event) => {
    settings.model = event.target.value;
    saveSettings();
  } }, session.models.map((model) => h('option', { value: model.id,
    selected: model.id === current.id }, modelLabel(model))));
}

export function openSettings() {
  const keep = (name) => (event) => {
    settings[name] = event.target.value;
    saveSettings();
  };
  const number = (name, properties) => h('input', { type: 'number', value: settings[name],
    onchange: keep(name), placeholder: "the model's own", ...properties });
  openDialog('Settings', [
    field('System message', h('textarea', { rows: 4, value: settings.system,
      onchange: keep('system'), placeholder: "the model's own" })),
    field('Temperature', number('temperature', { min: 0, max: 2, step: 0.1 }), '0 to 2'),
    field('Tokens of an answer, at most', number('maxTokens', { min: 1, step: 1 })),
    field('Thinking', h('select', { onchange: keep('thinking') },
      [['', 'As the model likes'], ['on', 'On'], ['off', 'Off']].map(([value, text]) =>
        h('option', { value, selected: value === settings.thinking }, text)))),
    field('Colours', h('select', { onchange: (event) => {
      keep('theme')(event);
      applyTheme();
    } }, [['', 'As the system'], ['light', 'Light'], ['dark', 'Dark']].map(([value, text]) =>
      h('option', { value, selected: value === settings.theme }, text)))),
  ]);
}

export function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
}

export function toggleTheme() {
  const isDark = settings.theme
    ? settings.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  settings.theme = isDark ? 'light' : 'dark';
  saveSettings();
  applyTheme();
}
