// How fast an answer comes: tokens, tokens a second of the last second, tokens a step.
import { h, integer, svg } from './dom.js';

const kWindowMs = 1000;
const kSampleMs = 100;
const kMaxSamples = 100;

export class Meter {
  constructor() {
    this.begin = performance.now();
    this.tokens = 0;
    this.steps = 0;        // that gave tokens; the server sends an event a step
    this.isExact = false;  // the server counts; else a token is taken for 4 characters
    this.counts = new Map();  // tokens by choice
    this.arrivals = [];    // [time, tokens so far] of the last second
    this.samples = [];
    this.lastSample = 0;
    this.final = null;     // {usage, timings} of the last chunk
  }

  // Of a chunk with text, or with counts.
  take(chunk) {
    if (chunk.timings || (chunk.usage && chunk.choices.length === 0)) {
      this.final = { usage: chunk.usage, timings: chunk.timings };
    }
    const choice = chunk.choices[0];
    if (!choice) return;
    const { content, reasoning_content: reasoning } = choice.delta ?? {};
    const before = this.counts.get(choice.index) ?? 0;
    let count = before + Math.ceil(((content ?? '') + (reasoning ?? '')).length / 4);
    if (chunk.usage) {
      this.isExact = true;
      count = chunk.usage.completion_tokens;
    }
    if (count <= before) return;
    this.counts.set(choice.index, count);
    this.tokens += count - before;
    this.steps += 1;
    const now = performance.now();
    this.arrivals.push([now, this.tokens]);
    while (this.arrivals.length > 2 && this.arrivals[0][0] < now - kWindowMs) this.arrivals.shift();
    if (now - this.lastSample < kSampleMs) return;
    this.lastSample = now;
    this.samples.push(this.rate());
    if (this.samples.length > kMaxSamples) this.samples.shift();
  }

  // Tokens a second, of the last second.
  rate() {
    if (this.arrivals.length < 2) return 0;
    const [first, before] = this.arrivals[0];
    const [last, tokens] = this.arrivals.at(-1);
    return last > first + kSampleMs ? (tokens - before) * 1000 / (last - first) : 0;
  }

  // What there is to say now, or at the end, where the server's own clock counts.
  numbers() {
    const timings = this.final?.timings;
    return {
      tokens: this.final?.usage?.completion_tokens ?? this.tokens,
      rate: timings ? timings.tokens_per_second : this.rate(),
      accepted: timings?.accepted_length || (this.steps > 0 ? this.tokens / this.steps : 0),
      prefillMs: timings?.prefill_ms,
      cached: this.final?.usage?.prompt_tokens_details?.cached_tokens,
      prompt: this.final?.usage?.prompt_tokens,
      seconds: (performance.now() - this.begin) / 1000,
      isEstimate: !this.isExact && !this.final?.usage,
    };
  }
}

function sparkline(samples) {
  if (samples.length < 3) return null;
  const top = Math.max(...samples, 1);
  const points = samples.map((value, i) =>
    `${(i * 60 / (samples.length - 1)).toFixed(1)},${(15 - 14 * value / top).toFixed(1)}`);
  return svg('svg', { class: 'spark', viewBox: '0 0 60 16', width: 60, height: 16,
    'aria-hidden': 'true' }, svg('polyline', { points: points.join(' ') }));
}

const kTierNames = { fast: 'UltraSpeed', priority: 'UltraSpeed', standard: 'Standard',
  default: 'Standard' };
export const tierName = (tier) => kTierNames[tier] ?? tier;

// A line of numbers under an answer.
export class MeterView {
  constructor() {
    this.element = h('div', { class: 'meter' });
  }

  show(meter, { isDone = false, tier = '' } = {}) {
    const numbers = meter.numbers();
    if (numbers.tokens === 0) return;
    const about = numbers.isEstimate ? '≈ ' : '';
    const part = (name, value, unit) => h('span', { class: `meter-${name}`, 'data-value': value },
      h('b', {}, value), ` ${unit}`);
    this.element.replaceChildren(...[
      numbers.rate > 0 && part('rate', about + integer(numbers.rate), 'tokens/s'),
      numbers.accepted > 0 && part('accepted', numbers.accepted.toFixed(2), 'a step'),
      part('tokens', about + integer(numbers.tokens), 'tokens'),
      part('time', numbers.seconds.toFixed(1), 's'),
      isDone && numbers.prefillMs !== undefined
        && part('prefill', integer(numbers.prefillMs), 'ms to the first'),
      isDone && numbers.cached > 0 && part('cached', integer(numbers.cached), 'cached'),
      tier && h('span', { class: 'tier' }, tierName(tier)),
      sparkline(meter.samples),
    ].filter(Boolean));
  }
}
