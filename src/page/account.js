// Logging in and out, and the application for access.
import { call, logIn, logOut, refreshSession, session } from './api.js';
import { button, field, h, time, toast } from './dom.js';

// A form that shows its error and is busy while it is sent.
export function form(fields, submitLabel, submit) {
  const problem = h('p', { class: 'problem', role: 'alert' });
  const send = h('button', { type: 'submit', class: 'primary' }, submitLabel);
  const element = h('form', { class: 'stacked', onsubmit: async (event) => {
    event.preventDefault();
    problem.textContent = '';
    send.disabled = true;
    try {
      await submit(Object.fromEntries(new FormData(element)), element);
    } catch (error) {
      problem.textContent = error.message
        + (error.retryAfter ? ` Try again in ${error.retryAfter} s.` : '');
    }
    send.disabled = false;
  } }, fields, problem, h('div', {}, send));
  return element;
}

const name = () => h('input', { name: 'name', required: true, autocomplete: 'username',
  autocapitalize: 'none', spellcheck: 'false', maxlength: 64 });
const password = (autocomplete) => h('input', { name: 'password', type: 'password',
  required: true, autocomplete });

export function accountView() {
  if (session.account) {
    return h('section', { class: 'sheet' }, h('h1', {}, session.account.name),
      h('p', {}, session.account.is_administrator ? 'Administrator.' : session.standing?.text),
      button('Log out', async () => {
        await logOut();
        location.hash = '#/chat';
      }));
  }
  return h('section', { class: 'sheet narrow' }, h('h1', {}, 'Log in'),
    form([field('Name', name()), field('Password', password('current-password'))], 'Log in',
      async (values) => {
        await logIn(values.name, values.password);
        location.hash = session.account?.is_administrator ? '#/admin' : '#/chat';
      }),
    h('p', {}, 'No account yet? ', h('a', { href: '#/application' }, 'Apply for access.')));
}

export function windowText() {
  const { window: trial } = session;
  if (!trial) return '';
  const state = { before: 'It has not begun.', open: 'It is open.', after: 'It has ended.' };
  return `The trial: ${trial.first_day} to ${trial.last_day}, whole days in ${
    trial.time_zone}. ${state[trial.state] ?? ''}`;
}

function applicationForm() {
  return form([
    field('Name', name(), 'For logging in: letters, digits, and - _ .'),
    field('Password', h('input', { name: 'password', type: 'password', required: true,
      autocomplete: 'new-password', minlength: 12 }),
    '12 characters or more; it cannot be sent to you again.'),
    field('What do you want to do?', h('textarea', { name: 'statement', rows: 5, required: true,
      maxlength: 4000 })),
  ], 'Apply', async (values) => {
    await call('POST', '/api/applications', values);
    toast('Your application was received.');
    await logIn(values.name, values.password);
  });
}

function applicationState(application) {
  const words = { pending: 'It waits for a decision.', approved: 'It was approved.',
    declined: 'It was declined.' };
  return h('dl', { class: 'facts' },
    h('dt', {}, 'State'), h('dd', { class: `state-${application.state}` },
      words[application.state] ?? application.state),
    h('dt', {}, 'Submitted'), h('dd', {}, time(application.submitted)),
    application.decided && [h('dt', {}, 'Decided'), h('dd', {}, time(application.decided))],
    application.reason && [h('dt', {}, 'Reason'), h('dd', {}, application.reason)],
    h('dt', {}, 'Your statement'), h('dd', { class: 'pre' }, application.statement));
}

export async function applicationView() {
  const head = [h('h1', {}, 'Application'), h('p', {}, windowText())];
  if (!session.account) {
    return h('section', { class: 'sheet narrow' }, head, applicationForm(),
      h('p', {}, 'Applied already? ', h('a', { href: '#/account' }, 'Log in'),
        ' to see what became of it.'));
  }
  const { application, standing } = await call('GET', '/api/application');
  if (standing && standing.code !== session.standing?.code) refreshSession();
  return h('section', { class: 'sheet' }, head, h('p', { class: 'standing' }, standing?.text),
    application ? applicationState(application)
      : h('p', {}, 'There is no application of this account.'));
}
