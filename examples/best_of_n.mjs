// Best of N: the same question N times at once, and the answer that most candidates agree on. What
// speed is for: eight answers in the time that others take for one.
//
//   node examples/best_of_n.mjs [--problems 20] [--n 8] [--temperature 1.7]
import {argument, chat, lastNumber, quantile, wordProblems} from './client.mjs';

const temperature = argument('temperature', 1.7);
const problems = wordProblems(argument('problems', 20));

for (const n of [1, argument('n', 8)]) {
  let solved = 0;
  const times = [];
  for (const [i, problem] of problems.entries()) {
    const begin = performance.now();
    const [answer] = await chat([{role: 'user', content: problem.text}],
      {temperature, seed: i, best_of: n, best_of_mode: 'majority', max_tokens: 160});
    times.push(performance.now() - begin);
    if (lastNumber(answer.text) === problem.answer) ++solved;
  }
  console.log(`best of ${n}: ${solved} of ${problems.length} right, ` +
    `p50 ${quantile(times, 0.5).toFixed(0)} ms, p99 ${quantile(times, 0.99).toFixed(0)} ms`);
}
