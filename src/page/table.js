// Tables of rows from the server.
import { h } from './dom.js';

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
