// Elements, words for screen readers, and how numbers and times are written. Text only ever
// becomes text nodes: nothing here or elsewhere parses a string as HTML.

const kSvg = 'http://www.w3.org/2000/svg';

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') element[name] = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(element, child);
    else if (child !== undefined && child !== null && child !== false) element.append(child);
  }
}

// h('a', {href: '#/chat', class: 'nav'}, 'Chat'): attributes, on... listeners, then children.
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(kSvg, tag), properties, children);
}

export function button(label, onclick, properties = {}) {
  return h('button', { type: 'button', onclick, ...properties }, label);
}

// A label with its control inside, so that it needs no id.
export function field(label, control, hint) {
  return h('label', { class: 'field' }, h('span', { class: 'field-label' }, label), control,
    hint && h('span', { class: 'hint' }, hint));
}

export function announce(text) {
  document.getElementById('announcer').textContent = text;
}

// Beside the page's content, for a few seconds.
export function toast(text, kind = 'note') {
  const note = h('div', { class: `toast ${kind}`, role: kind === 'error' ? 'alert' : 'status' },
    text);
  document.getElementById('toasts').append(note);
  setTimeout(() => note.remove(), kind === 'error' ? 9000 : 4000);
}

// A modal dialog; Esc and a click beside it close it. The element is removed with it.
export function openDialog(title, content, { onclose } = {}) {
  const opener = document.activeElement;
  const close = () => dialog.close();
  const dialog = h('dialog', { 'aria-label': title },
    h('header', {}, h('h2', {}, title),
      button('✕', close, { class: 'quiet', 'aria-label': 'Close' })),
    h('div', { class: 'dialog-body' }, content));
  dialog.addEventListener('click', (event) => { if (event.target === dialog) close(); });
  dialog.addEventListener('close', () => {
    dialog.remove();
    if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    onclose?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    announce('Copied');
    return true;
  } catch {
    toast('The browser does not let this page copy; select the text instead.', 'error');
    return false;
  }
}

export function copyButton(text, properties = {}) {
  const control = button('Copy', async () => {
    if (!await copyText(typeof text === 'function' ? text() : text)) return;
    control.textContent = 'Copied';
    setTimeout(() => { control.textContent = 'Copy'; }, 1500);
  }, { class: 'quiet', ...properties });
  return control;
}

// Gives the text to the browser as a file.
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const kInteger = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
export const integer = (value) => kInteger.format(value);

export function shortNumber(value) {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)}G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${Math.round(value / 1e3)}k`;
  return integer(value);
}

// "4:09", "1:00:00"
export function clock(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  const two = (number) => String(number).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

// An RFC 3339 time as "2026-06-09 08:30 UTC"; without one: a dash.
export function time(text) {
  if (!text) return '–';
  return `${new Date(text).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

// The exact sum of decimal strings such as "0.000009".
export function sumDecimals(texts) {
  let units = 0n;
  for (const text of texts) {
    const [whole, fraction = ''] = String(text).replace('-', '').split('.');
    const amount = BigInt(whole + fraction.slice(0, 12).padEnd(12, '0'));
    units += String(text).startsWith('-') ? -amount : amount;
  }
  const digits = String(units < 0n ? -units : units).padStart(13, '0');
  const fraction = digits.slice(-12).replace(/0+$/, '');
  return `${units < 0n ? '-' : ''}${digits.slice(0, -12)}${fraction ? `.${fraction}` : ''}`;
}
