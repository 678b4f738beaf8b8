// Decisions in real time: events arrive at a rate, each has to be decided within a budget, and what
// comes too late is a miss. `deadline_ms` ends an answer on the server when its time is over, so
// that a late decision does not delay the next ones; a choice of a few words keeps it short.
//
//   node examples/decisions.mjs [--budget 200] [--events 80] [--rates 10,40,80]
import {argument, chat, quantile, random} from './client.mjs';

const budgetMs = argument('budget', 200);
const numEvents = argument('events', 80);
const place = process.argv.indexOf('--rates');
const rates = (place < 0 ? '10,40,80' : process.argv[place + 1]).split(',').map(Number);
const kChoices = ['accept', 'hold', 'reject'];

async function decide(event) {
  const arrived = performance.now();
  const left = Math.max(1, Math.floor(event.due - arrived));
  const [answer] = await chat(
    [{role: 'user', content: `An order of ${event.amount} units at ${event.price}; the stock is ` +
      `${event.stock}. Accept, hold or reject?`}],
    {temperature: 0, guided_choice: kChoices, deadline_ms: left, priority: -event.amount,
      thinking: {type: 'disabled'}, max_tokens: 8});
  const now = performance.now();
  return {latency: now - event.arrival, isMiss: now > event.due || !kChoices.includes(answer.text)};
}

// No decision, however fast it came: a miss, and of no latency.
function refused(error) {
  return {latency: null, isMiss: true, error: error.message};
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

console.log(`budget ${budgetMs} ms, ${numEvents} events a rate`);
for (const rate of rates) {
  const below = random(rate);
  const results = [];
  let next = performance.now();
  for (let i = 0; i < numEvents; ++i) {
    // Arrivals without memory (Poisson), whether or not earlier ones are decided.
    next += (-Math.log(1 - below(1e6) / 1e6) * 1000) / rate;
    await sleep(next - performance.now());
    const arrival = performance.now();
    results.push(decide({arrival, due: arrival + budgetMs, amount: 1 + below(90),
      price: 5 + below(40), stock: below(500)})
      .catch(refused));
  }
  const done = await Promise.all(results);
  const latencies = done.map(one => one.latency).filter(latency => latency !== null);
  const errors = done.filter(one => one.error);
  const misses = done.filter(one => one.isMiss).length;
  if (latencies.length === 0) throw new Error(`no event was decided: ${errors[0].error}`);
  console.log(`${rate} events/s: p50 ${quantile(latencies, 0.5).toFixed(0)} ms, ` +
    `p99 ${quantile(latencies, 0.99).toFixed(0)} ms, missed ${misses} ` +
    `(${((100 * misses) / numEvents).toFixed(1)} %)` +
    (errors.length > 0 ? `, ${errors.length} of them refused: ${errors[0].error}` : ''));
}
