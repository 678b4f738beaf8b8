// What the examples share: requests to a server, numbers of a list, word problems whose answer is
// known. Node 18 or newer; nothing to install. See README.md.

export const URL_BASE = process.env.ULTRASPEED_URL ?? 'http://127.0.0.1:8000';
const KEY = process.env.ULTRASPEED_API_KEY;

async function request(path, body) {
  const headers = {'Content-Type': 'application/json'};
  if (KEY) headers.Authorization = `Bearer ${KEY}`;
  const method = body === undefined ? 'GET' : 'POST';
  const response = await fetch(URL_BASE + path, {method, headers, body: JSON.stringify(body)});
  const json = await response.json();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${json.error?.message}`);
  return json;
}

const models = (await request('/v1/models')).data.map(model => model.id);
// The fast mode's name where the server has two.
export const MODEL = process.env.ULTRASPEED_MODEL ?? models.at(-1);

// The answer's choices: [{text, tokens, reason}].
export async function chat(messages, fields = {}) {
  const json = await request('/v1/chat/completions', {model: MODEL, messages, ...fields});
  return json.choices.map(choice => ({
    message: choice.message,
    text: choice.message.content ?? '',
    reason: choice.finish_reason,
    usage: json.usage,
  }));
}

export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

// Numbers that are the same in every run.
export function random(seed) {
  let state = seed >>> 0;
  return limit => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

// Word problems of a kind that the bundled model knows: [{text, answer}].
export function wordProblems(count, seed = 1) {
  const below = random(seed);
  const names = ['David', 'Maria', 'Peter', 'Anna'];
  return Array.from({length: count}, () => {
    const [a, b, c, d] = [11 + below(40), 3 + below(9), 11 + below(40), 3 + below(9)];
    return {
      text: `${names[below(4)]} walks ${a} steps a minute for ${b} minutes, and then ${c} steps ` +
        `a minute for ${d} minutes. How many steps is that in total?`,
      answer: a * b + c * d,
    };
  });
}

// The last number of a text; NaN without one.
export function lastNumber(text) {
  const numbers = text.replaceAll(',', '').match(/-?\d+/g);
  return numbers ? Number(numbers.at(-1)) : NaN;
}

export function argument(name, fallback) {
  const place = process.argv.indexOf(`--${name}`);
  return place < 0 ? fallback : Number(process.argv[place + 1]);
}
