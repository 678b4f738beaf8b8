// Tree search over an answer's lines: from each state several next lines are drawn, each is valued
// by rollouts to the end (how many agree on one number), and the best states are kept. Many small
// requests that begin alike: the prefix cache and short answers decide how deep it can look.
//
//   node examples/tree_search.mjs [--problems 10] [--beam 2] [--branch 3] [--rollouts 3]
import {argument, chat, lastNumber, quantile, wordProblems} from './client.mjs';

const beam = argument('beam', 2);
const branch = argument('branch', 3);
const rollouts = argument('rollouts', 3);
const temperature = argument('temperature', 1.7);
const problems = wordProblems(argument('problems', 10), 2);
let requests = 0;

// Goes on with an answer that has begun.
async function goOn(problem, begun, fields) {
  ++requests;
  const messages = [{role: 'user', content: problem.text}];
  const continues = begun !== '';
  if (continues) messages.push({role: 'assistant', content: begun});
  return chat(messages, {
    temperature, thinking: {type: 'disabled'}, max_tokens: 160,
    ...(continues && {continue_final_message: true, add_generation_prompt: false}), ...fields});
}

// How many of the rollouts agree on the commonest number, and that number.
async function value(problem, state, seed) {
  if (state.isDone) return {agreement: rollouts, number: lastNumber(state.text)};
  const ends = await goOn(problem, state.text, {n: rollouts, seed});
  const counts = new Map();
  for (const end of ends) {
    const number = lastNumber(state.text + end.text);
    counts.set(number, (counts.get(number) ?? 0) + 1);
  }
  const [number, agreement] = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a));
  return {agreement, number};
}

async function search(problem, seed) {
  let states = [{text: '', isDone: false}];
  let best = null;
  for (let depth = 0; depth < 4 && states.some(state => !state.isDone); ++depth) {
    const next = new Map();
    for (const state of states) {
      if (state.isDone) {
        next.set(state.text, state);
        continue;
      }
      const lines = await goOn(problem, state.text, {n: branch, stop: ['\n'], seed: seed + depth});
      for (const line of lines) {
        const isDone = line.reason !== 'stop' || line.text === '';
        const text = state.text + line.text + (isDone ? '' : '\n');
        next.set(text, {text, isDone: isDone || text === state.text});
      }
    }
    states = [...next.values()];
    for (const state of states) state.value = await value(problem, state, seed);
    states.sort((a, b) => b.value.agreement - a.value.agreement);
    states.length = Math.min(states.length, beam);
    best = states[0];
    if (best.value.agreement === rollouts) break;
  }
  return best.value.number;
}

let solved = 0;
const times = [];
for (const [i, problem] of problems.entries()) {
  const begin = performance.now();
  if (await search(problem, 100 * i) === problem.answer) ++solved;
  times.push(performance.now() - begin);
}
console.log(`tree search: ${solved} of ${problems.length} right, ` +
  `${(requests / problems.length).toFixed(1)} requests a problem, ` +
  `p50 ${quantile(times, 0.5).toFixed(0)} ms, p99 ${quantile(times, 0.99).toFixed(0)} ms`);
