// One's place in the chat's queue: entries left, position, expected wait, and the session's end.
// In a server without the offer there is none of it, and everybody may chat.
import { call, onSession, refreshSession, session } from './api.js';
import { announce, button, clock, h, toast } from './dom.js';

const kAskMs = 10_000;      // asking keeps the place
const kStandingMs = 60_000;  // until the window opens, or somebody decides

const kEnds = { left: 'you left', absent: 'nobody was here', 'time up': 'its time was up',
  idle: 'nothing was written', closed: 'the trial is over' };

export class QueueBar {
  constructor() {
    this.place = null;
    this.mayChat = true;
    this.element = h('div', { class: 'queue', hidden: true });
  }

  // onchange: one may chat now, or no longer.
  begin(onchange) {
    this.onchange = onchange;
    setInterval(() => this.refresh(), kAskMs);
    document.addEventListener('visibilitychange', () => this.refresh()); // hidden pages ask rarely
    setInterval(() => this.showTimes(), 1000);
    setInterval(() => { if (session.account && !this.isUser()) refreshSession(); }, kStandingMs);
    onSession(() => this.onSession());
    this.onSession();
  }

  onSession() {
    this.place = null;
    this.show();
    this.refresh();
  }

  isUser() {
    if (!session.offer || !session.account) return false;
    return session.account.is_administrator || session.standing?.code === 'approved';
  }

  async refresh() {
    if (!this.isUser()) return;
    try {
      this.take(await call('GET', '/api/chat'));
    } catch (error) {
      this.takeError(error);
    }
  }

  async change(action) {
    try {
      this.take(await call('POST', `/api/chat/${action}`, {}));
    } catch (error) {
      this.takeError(error);
      toast(error.message, 'error');
    }
  }

  takeError(error) {
    this.place = null;
    this.show(error.message);
  }

  take(place) {
    const before = this.place;
    this.place = place;
    this.skew = Date.parse(place.now) - Date.now();
    this.show();
    if (before && before.state !== place.state && place.state === 'active') {
      announce('Your session has begun');
      toast('It is your turn: the chat is open.');
    }
    if (before?.state === 'active' && place.state === 'outside') {
      toast(`Your session has ended: ${kEnds[place.last_end] ?? place.last_end}.`);
    }
  }

  // Seconds until a time of the server.
  left(time) {
    return (Date.parse(time) - Date.now() - this.skew) / 1000;
  }

  show(problem = '') {
    this.mayChat = !session.offer || this.place?.state === 'active';
    this.element.hidden = !session.offer;
    this.element.replaceChildren(...this.content(problem));
    this.showTimes();
    this.onchange();
  }

  content(problem) {
    if (!session.offer) return [];
    const link = (href, text) => h('a', { href }, text);
    if (!session.account) {
      return [h('span', {}, 'Log in to chat, or apply for access.'),
        link('#/account', 'Log in'), link('#/application', 'Apply')];
    }
    if (!this.isUser()) {
      return [h('span', {}, session.standing?.text ?? ''), link('#/application', 'Application')];
    }
    if (problem) return [h('span', { class: 'bad' }, problem)];
    if (!this.place) return [h('span', {}, 'Asking for your place…')];
    const { state, entries_left: left, last_end: end } = this.place;
    const entries = `${left} of ${session.chat.max_entries_per_day} entries left today`;
    this.times = h('b', {});
    this.warning = h('span', { class: 'warning', role: 'alert' });
    if (state === 'outside') {
      const before = end ? `The last session ended: ${kEnds[end] ?? end}. ` : '';
      return [h('span', {}, `${before}${entries}.`),
        button('Join the queue', () => this.change('join'),
          { class: 'primary', disabled: left === 0 })];
    }
    const leave = button(state === 'waiting' ? 'Leave the queue' : 'End the session',
      () => this.change('leave'), { class: 'quiet' });
    return [this.times, this.warning, h('span', { class: 'hint' }, entries), leave];
  }

  showTimes() {
    const { place } = this;
    if (!this.times || !place || !this.isUser()) return;
    if (place.state === 'waiting') {
      const wait = place.expected_wait_s;
      this.times.textContent = `Position ${place.position} in the queue`
        + (wait === null || wait === undefined ? '' : `, about ${clock(wait)} to wait`);
      return;
    }
    if (place.state !== 'active') return;
    const end = this.left(place.ends);
    const idleEnd = place.idle_ends ? this.left(place.idle_ends) : Infinity;
    this.times.textContent = `Session: ${clock(end)} left`;
    const warnAt = session.chat.warning_minutes * 60;
    const isSoon = Math.min(end, idleEnd) <= warnAt;
    // An alert is read aloud when it changes: the words stay, the clock beside them runs.
    if (isSoon !== this.warning.hasChildNodes()) {
      this.warning.textContent = !isSoon ? '' : idleEnd < end
        ? 'Your session ends soon because nothing is written.' : 'Your session ends soon.';
    }
    if (isSoon && idleEnd < end) {
      this.times.textContent = `Session: ${clock(idleEnd)} left without a message`;
    }
    if (Math.min(end, idleEnd) <= 0) this.refresh();
  }

  explain() {
    toast(!session.account ? 'Log in to chat.' : this.isUser()
      ? 'Join the queue to chat.' : session.standing?.text ?? 'You may not chat now.');
  }
}
