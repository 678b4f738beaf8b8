// Bars by day, as SVG. The table beside a plot says the same to who cannot see it.
import { h, shortNumber, svg } from './dom.js';

const kWidth = 640, kHeight = 200;
const kLeft = 52, kBottom = 24, kTop = 8;

// A round number that is at least `value`.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// All days from the first to the last: "2026-06-09", ...
export function daysBetween(first, last) {
  const days = [];
  for (let day = Date.parse(`${first}T00:00:00Z`); day <= Date.parse(`${last}T00:00:00Z`)
    && days.length < 400; day += 86_400_000) {
    days.push(new Date(day).toISOString().slice(0, 10));
  }
  return days;
}

// series: [{name, class, values: number for each day}], stacked in that order.
export function barPlot(title, days, series) {
  const sums = days.map((_, day) => series.reduce((sum, { values }) => sum + values[day], 0));
  const largest = Math.max(...sums, 0);
  const top = largest > 0 ? roundUp(largest) : 1;
  const width = (kWidth - kLeft) / Math.max(days.length, 1);
  const height = kHeight - kBottom - kTop;
  const y = (value) => kTop + height * (1 - value / top);
  const grid = [0, 0.5, 1].map((part) => svg('g', {},
    svg('line', { x1: kLeft, x2: kWidth, y1: y(part * top), y2: y(part * top), class: 'grid' }),
    svg('text', { x: kLeft - 6, y: y(part * top) + 4, 'text-anchor': 'end' },
      top < 10 ? String(+(part * top).toPrecision(3)) : shortNumber(part * top))));
  const bars = days.map((day, i) => {
    let below = 0;
    return series.map(({ name, class: kind, values }) => {
      const value = values[i];
      below += value;
      return value > 0 && svg('rect', { x: (kLeft + i * width + width * 0.12).toFixed(2),
        width: (width * 0.76).toFixed(2), y: y(below).toFixed(2),
        height: (height * value / top).toFixed(2), class: kind },
      svg('title', {}, `${day}, ${name}: ${shortNumber(value)}`));
    });
  });
  const step = Math.ceil(days.length / 8);
  const labels = days.map((day, i) => i % step === 0 && svg('text', {
    x: kLeft + (i + 0.5) * width, y: kHeight - 6, 'text-anchor': 'middle' }, day.slice(5)));
  return h('figure', { class: 'plot' },
    h('figcaption', {}, h('span', {}, title), series.map(({ name, class: kind }) =>
      h('span', { class: `legend ${kind}` }, name))),
    svg('svg', { viewBox: `0 0 ${kWidth} ${kHeight}`, role: 'img', 'aria-label':
      `${title}, ${days[0] ?? ''} to ${days.at(-1) ?? ''}` }, grid, bars, labels));
}
