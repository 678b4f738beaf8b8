// API keys: made, shown once, revoked; one's own, or as administrator all.
import { call, session } from './api.js';
import { button, copyButton, field, h, integer, openDialog, time, toast } from './dom.js';
import { form } from './account.js';
import { pages, table } from './table.js';

const kKinds = { 'pay-as-you-go': 'Pay as you go', 'token-plan': 'Token Plan' };

function showSecret(secret) {
  const text = h('code', { class: 'secret', tabindex: '0' }, secret);
  openDialog('Your new key', [
    h('p', {}, 'It is shown this once. Keep it where only you can read it.'),
    text, h('div', { class: 'row' }, copyButton(secret, { class: 'primary' })),
    h('pre', { class: 'pre' }, `curl ${location.origin}/v1/models -H "Authorization: Bearer $KEY"`),
  ]);
}

function limitsText({ limits = {} }) {
  const parts = [];
  const add = (name, text) => { if (limits[name]) parts.push(text(limits[name])); };
  add('requests_per_minute', (n) => `${integer(n)} requests/min`);
  add('tokens_per_minute', (n) => `${integer(n)} tokens/min`);
  add('max_concurrent', (n) => `${n} at once`);
  add('budget', (amount) => `budget ${amount} ${session.prices?.currency ?? ''}`);
  add('allowance_tokens', (n) => `${integer(n)} tokens in all`);
  return parts.join(', ') || '–';
}

function keyTable(keys, path, isAdmin, changed) {
  const revoke = async (key) => {
    if (!window.confirm(`Revoke ${key.name}? What uses it stops working at once.`)) return;
    try {
      await call('DELETE', `${path}/${encodeURIComponent(key.key)}`);
      changed();
    } catch (error) {
      toast(error.message, 'error');
    }
  };
  return table(isAdmin ? 'Keys of all accounts' : 'Your keys', [
    ...(isAdmin ? [{ name: 'Account', of: (key) => key.account }] : []),
    { name: 'Name', of: (key) => key.name },
    { name: 'Key', of: (key) => h('code', {}, `${key.key}…`) },
    { name: 'Kind', of: (key) => kKinds[key.kind] ?? key.kind },
    { name: 'State', of: (key) => h('span', { class: `state-${key.state}` }, key.state) },
    { name: 'Made', of: (key) => time(key.created) },
    { name: 'Expires', of: (key) => time(key.expires) },
    { name: 'Spent', class: 'number', of: (key) => key.spent ?? '–' },
    { name: 'Tokens', class: 'number', of: (key) => integer(key.used_tokens ?? 0) },
    { name: 'Limits', of: limitsText },
    { name: '', of: (key) => key.state === 'active'
      && button('Revoke', () => revoke(key), { class: 'danger small',
        'aria-label': `Revoke ${key.name}` }) },
  ], keys, 'There are no keys yet.');
}

// The list under its heading; it shows itself again when something has changed.
function keyList(path, isAdmin) {
  const list = pages(async (query) => {
    const { keys, next } = await call('GET', `${path}${query}`);
    return { rows: keys, next };
  }, (keys) => keyTable(keys, path, isAdmin, () => list.show()));
  return list;
}

export async function keysView() {
  const list = keyList('/api/keys', false);
  await list.show();
  return h('section', { class: 'sheet wide' }, h('h1', {}, 'Keys'),
    h('p', {}, 'For programs: the API speaks as OpenAI and Anthropic do, at ',
      h('code', {}, `${location.origin}/v1`), '. '),
    form([field('Name of a new key', h('input', { name: 'name', required: true, maxlength: 64 }))],
      'Make a key', async (values, element) => {
        const { secret } = await call('POST', '/api/keys', { name: values.name });
        element.reset();
        showSecret(secret);
        await list.show();
      }),
    list.holder);
}

export async function adminKeysView() {
  const list = keyList('/api/admin/keys', true);
  await list.show();
  const input = (name, properties) => h('input', { name, ...properties });
  const create = form([
    field('Account', input('account', { required: true })),
    field('Name', input('name', { required: true, maxlength: 64 })),
    field('Kind', h('select', { name: 'kind' }, Object.entries(kKinds).map(([value, text]) =>
      h('option', { value }, text)))),
    field('Tokens of a Token Plan', input('plan_tokens', { type: 'number', min: 1 })),
    field('Budget', input('budget', { inputmode: 'decimal', pattern: '\\d+(\\.\\d+)?' })),
  ], 'Make a key', async (values, element) => {
    const body = { account: values.account, name: values.name, kind: values.kind };
    if (values.plan_tokens) body.plan_tokens = Number(values.plan_tokens);
    if (values.budget) body.budget = values.budget;
    const { secret } = await call('POST', '/api/admin/keys', body);
    element.reset();
    showSecret(secret);
    await list.show();
  });
  create.classList.add('inline');
  return h('div', {}, create, list.holder);
}
