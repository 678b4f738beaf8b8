// What was used and what it costs, by day: plots, the table, and the export.
import { call, session } from './api.js';
import { field, h, integer, sumDecimals, toast } from './dom.js';
import { tierName } from './meter.js';
import { barPlot, daysBetween } from './plot.js';
import { table } from './table.js';

// The window's days, or the last two weeks. Which day it is, the server knows.
async function defaultRange() {
  const { window: trial } = await call('GET', '/api/session');
  const { today } = trial;
  if (today >= trial.first_day && today <= trial.last_day) {
    return { first_day: trial.first_day, last_day: today };
  }
  const first = new Date(Date.parse(`${today}T00:00:00Z`) - 13 * 86_400_000);
  return { first_day: first.toISOString().slice(0, 10), last_day: today };
}

const kTokenClasses = [
  ['cached_input_tokens', 'Cached input', 'series-c'], ['input_tokens', 'Input', 'series-b'],
  ['output_tokens', 'Output', 'series-a'],
];

function plots(usage, range) {
  const days = daysBetween(range.first_day, range.last_day);
  const sum = (field, accepts = () => true) => days.map((day) => usage.days
    .filter((row) => row.day === day && accepts(row))
    .reduce((total, row) => total + Number(row[field]), 0));
  const tiers = [...new Set(usage.days.map(({ tier }) => tier))].sort();
  const kinds = { fast: 'series-a', standard: 'series-b' };
  return h('div', { class: 'plots' },
    barPlot('Tokens', days, kTokenClasses.map(([field, name, kind]) =>
      ({ name, class: kind, values: sum(field) }))),
    barPlot(`Price, ${usage.currency}`, days, tiers.map((tier) => ({ name: tierName(tier),
      class: kinds[tier] ?? 'series-c', values: sum('price', (row) => row.tier === tier) }))));
}

function usageTable(usage, isAdmin) {
  const count = (name, field) => ({ name, class: 'number', of: (row) => integer(row[field]) });
  const rows = [...usage.days].sort((a, b) => b.day.localeCompare(a.day));
  return table('By day and key', [
    { name: 'Day', of: (row) => row.day },
    ...(isAdmin ? [{ name: 'Account', of: (row) => row.account }] : []),
    { name: 'Key', of: (row) => row.key || 'chat' },
    { name: 'Tier', of: (row) => tierName(row.tier) },
    count('Requests', 'requests'), count('Cached input', 'cached_input_tokens'),
    count('Input', 'input_tokens'), count('Output', 'output_tokens'),
    { name: usage.currency, class: 'number', of: (row) => row.price },
  ], rows, 'Nothing was used in these days.');
}

function totals({ total, currency, days }) {
  const tile = (name, value) => h('div', { class: 'tile' }, h('b', {}, value), h('span', {}, name));
  return h('div', { class: 'tiles' }, tile('requests', integer(total.requests)),
    tile('tokens in', integer(total.input_tokens + total.cached_input_tokens)),
    tile('tokens out', integer(total.output_tokens)),
    tile(currency, total.price ?? sumDecimals(days.map(({ price }) => price))));
}

async function usagePanel(path, isAdmin) {
  const range = await defaultRange();
  const content = h('div');
  const csv = h('a', { class: 'button', download: 'usage.csv' }, 'CSV');
  const show = async () => {
    const query = new URLSearchParams(range);
    csv.href = `${path}.csv?${query}`;
    const usage = await call('GET', `${path}?${query}`);
    content.replaceChildren(totals(usage), plots(usage, range), usageTable(usage, isAdmin));
  };
  const day = (label, name) => field(label, h('input', { type: 'date', value: range[name],
    onchange: (event) => {
      if (!event.target.value) return;
      range[name] = event.target.value;
      show().catch((error) => toast(error.message, 'error'));
    } }));
  const element = h('div', {}, h('div', { class: 'row' }, day('From', 'first_day'),
    day('To', 'last_day'), csv), content);
  return { element, show };
}

export async function usageView() {
  const panel = await usagePanel('/api/usage', false);
  await panel.show();
  const { prices, models } = session;
  const price = prices && `A million tokens: cached input ${prices.cached_input}, input ${
    prices.input}, output ${prices.output} ${prices.currency}${
    models.map(({ id, multiplier }) => multiplier ? `, ${id} ×${multiplier}` : '').join('')}.`;
  return h('section', { class: 'sheet wide' }, h('h1', {}, 'Usage'), h('p', {}, price),
    panel.element);
}

export async function adminUsageView() {
  const panel = await usagePanel('/api/admin/usage', true);
  await panel.show();
  return panel.element;
}
