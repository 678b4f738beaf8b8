// A coding agent's loop: the model writes a function, a test runs it, and what failed goes back
// into the conversation, until the test passes or the rounds are used up. Needs python3, which runs
// what the model wrote, for at most two seconds.
//
//   node examples/coding_agent.mjs [--rounds 4]
import {spawnSync} from 'node:child_process';
import {argument, chat, quantile} from './client.mjs';

const kTasks = [
  ['doubled_of_even', 'the elements of xs that are even and returns them doubled',
    'assert doubled_of_even([1, 2, 4]) == [4, 8]'],
  ['halved_of_zero', 'the elements of arr that are zero and returns them halved',
    'assert halved_of_zero([0, 3]) == [0]'],
  ['squared_of_positive', 'the elements of nums that are positive and returns them squared',
    'assert squared_of_positive([-1, 2, 3]) == [4, 9]'],
  ['negated_of_odd', 'the elements of values that are odd and returns them negated',
    'assert negated_of_odd([1, 2, 3]) == [-1, -3]'],
  ['doubled_of_negative', 'the elements of nums that are negative and returns them doubled',
    'assert doubled_of_negative([-1, 2]) == [-2]'],
  ['squared_of_even', 'the elements of arr that are even and returns them squared',
    'assert squared_of_even([1, 2, 4]) == [4, 16]'],
];

// The code of an answer: its fenced block, or all of it.
function codeOf(text) {
  return text.match(/```(?:python)?\n([\s\S]*?)```/)?.[1] ?? text;
}

// What went wrong; empty: nothing.
function test(code, check) {
  const run = spawnSync('python3', ['-I', '-c', `${code}\n${check}\n`],
    {timeout: 2000, encoding: 'utf8', env: {}});
  if (run.status === 0) return '';
  return (run.stderr || 'it did not end within two seconds').trim().split('\n').at(-1);
}

let solved = 0;
const rounds = [];
const times = [];
const begin = performance.now();
for (const [i, [name, what, check]] of kTasks.entries()) {
  const messages = [{role: 'user',
    content: `Please write a Python function called ${name} that takes ${what}. Add a docstring.`}];
  for (let round = 1; round <= argument('rounds', 4); ++round) {
    const start = performance.now();
    const [answer] = await chat(messages, {
      temperature: round === 1 ? 0 : 0.8, seed: 10 * i + round, max_tokens: 256});
    times.push(performance.now() - start);
    const error = test(codeOf(answer.text), check);
    if (error === '') {
      ++solved;
      rounds.push(round);
      break;
    }
    messages.push(answer.message, {role: 'user', content: `The test failed: ${error}. Try again.`});
  }
}
const mean = rounds.reduce((a, b) => a + b, 0) / Math.max(rounds.length, 1);
console.log(`coding agent: ${solved} of ${kTasks.length} tests pass, ` +
  `${mean.toFixed(1)} rounds each, ` +
  `p50 ${quantile(times, 0.5).toFixed(0)} ms a round, ` +
  `${((performance.now() - begin) / 1000).toFixed(1)} s in all`);
