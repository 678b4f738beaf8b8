// Administration: applications, keys of all accounts, totals, and the audit log.
import { call } from './api.js';
import { button, h, time, toast } from './dom.js';
import { adminKeysView } from './keys.js';
import { pages, table } from './table.js';
import { adminUsageView } from './usage.js';

function applicationRow(application, changed) {
  const reason = h('input', { 'aria-label': `Reason for ${application.account}`,
    placeholder: 'Reason', maxlength: 500 });
  const decide = (decision) => async () => {
    try {
      await call('POST', `/api/admin/applications/${encodeURIComponent(application.id)}`,
        { decision, reason: reason.value });
      changed();
    } catch (error) {
      toast(error.message, 'error');
    }
  };
  const choices = [['approve', 'Approve', 'primary'], ['decline', 'Decline', 'danger']]
    .filter(([decision]) => application.state !== `${decision}d`);
  return h('article', { class: 'application', 'aria-label': `Application of ${
    application.account}` },
  h('header', {}, h('h3', {}, application.account),
    h('span', { class: `state-${application.state}` }, application.state),
    h('span', { class: 'hint' }, time(application.submitted),
      application.decided && ` · decided ${time(application.decided)} by ${
        application.decided_by}`)),
  h('p', { class: 'pre' }, application.statement),
  application.reason && h('p', { class: 'hint' }, `Reason: ${application.reason}`),
  h('div', { class: 'row' }, reason, choices.map(([decision, label, kind]) =>
    button(label, decide(decision), { class: kind }))));
}

async function applicationsView() {
  let state = 'pending';
  const list = h('div');
  const more = button('More', () => show(last), { hidden: true });
  let last = '';
  const show = async (after = '') => {
    const query = new URLSearchParams({ state, ...(after && { after }) });
    const { applications, next } = await call('GET', `/api/admin/applications?${query}`);
    if (!after) list.replaceChildren();
    list.append(...applications.map((one) => applicationRow(one, () => show())));
    if (!list.hasChildNodes()) list.append(h('p', { class: 'hint' }, `None is ${state}.`));
    last = next;
    more.hidden = !next;
  };
  const choice = h('select', { 'aria-label': 'State', onchange: (event) => {
    state = event.target.value;
    show().catch((error) => toast(error.message, 'error'));
  } }, ['pending', 'approved', 'declined'].map((value) => h('option', { value }, value)));
  await show();
  return h('div', {}, h('div', { class: 'row' }, choice), list, more);
}

async function auditView() {
  const log = pages(async (query) => {
    const { entries, next } = await call('GET', `/api/admin/audit${query}`);
    return { rows: entries, next };
  }, (entries) => table('Audit log', [
    { name: 'When', of: (entry) => time(entry.at) },
    { name: 'Who', of: (entry) => entry.actor },
    { name: 'What', of: (entry) => entry.action },
    { name: 'Of what', of: (entry) => entry.subject },
    { name: 'Detail', of: (entry) => entry.detail },
  ], entries));
  await log.show();
  return log.holder;
}

const kParts = [
  ['applications', 'Applications', applicationsView], ['keys', 'Keys', adminKeysView],
  ['totals', 'Totals', adminUsageView], ['audit', 'Audit log', auditView],
];

export async function adminView(part) {
  const chosen = kParts.find(([name]) => name === part) ?? kParts[0];
  const content = await chosen[2]();
  return h('section', { class: 'sheet wide' }, h('h1', {}, 'Administration'),
    h('nav', { class: 'tabs', 'aria-label': 'Administration' }, kParts.map(([name, title]) =>
      h('a', { href: `#/admin/${name}`, 'aria-current': name === chosen[0] && 'page' }, title))),
    content);
}
