// Tables of rows from the server.
import { button, h } from './dom.js';

// A list of which the newest entries come first: load(query) gives {rows, next}, of those before an
// id where the query says so, and render(rows) shows all that were loaded. show() begins anew.
export function pages(load, render) {
  const content = h('div');
  const older = button('Older', () => more(), { hidden: true });
  let rows = [];
  let next = null;
  const more = async () => {
    const page = await load(next === null ? '' : `?before=${next}`);
    rows = [...rows, ...page.rows];
    next = page.next;
    older.hidden = next === null;
    content.replaceChildren(render(rows));
  };
  const show = () => {
    rows = [];
    next = null;
    return more();
  };
  return { holder: h('div', {}, content, older), show };
}

// columns: [{name, of(row), class?}]; `of` gives text or nodes.
export function table(caption, columns, rows, empty = 'There is nothing here.') {
  if (rows.length === 0) return h('p', { class: 'hint' }, empty);
  return h('div', { class: 'table-scroll', tabindex: '0', role: 'group', 'aria-label': caption },
    h('table', {}, h('caption', {}, caption),
      h('thead', {}, h('tr', {}, columns.map(({ name, class: kind }) =>
        h('th', { scope: 'col', class: kind }, name)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, columns.map(({ of, class: kind }) =>
        h('td', { class: kind }, of(row))))))));
}
