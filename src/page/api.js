// Requests to the server: JSON, errors in OpenAI's form, streams of events, and who is asking.

export class ApiError extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = error?.code ?? '';
    this.retryAfter = retryAfter;
  }
}

// What GET /api/session says; without the offer there are no accounts, and models alone.
export let session = { offer: false, account: null, models: [] };
let apiKey = '';  // of a server that wants one and has no accounts; never stored
let askForKey = null;
const listeners = new Set();

export function onSession(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// `ask` resolves to a key, or to an empty string.
export function setKeyPrompt(ask) {
  askForKey = ask;
}

function setSession(value) {
  session = value;
  for (const listener of [...listeners]) listener(session);
}

function headersFor(method, hasBody) {
  const headers = {};
  if (hasBody) headers['Content-Type'] = 'application/json';
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  if (method !== 'GET' && session.csrf_token) headers['X-CSRF-Token'] = session.csrf_token;
  return headers;
}

async function errorOf(response) {
  let error = null;
  try {
    ({ error } = await response.json());
  } catch { /* not JSON: the status has to do */ }
  return new ApiError(response.status, error, response.headers.get('Retry-After'));
}

async function send(method, path, body, signal) {
  const request = () => fetch(path, {
    method,
    signal,
    headers: headersFor(method, body !== undefined),
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: 'same-origin',
    cache: 'no-store',
    redirect: 'error',
  });
  let response;
  try {
    response = await request();
    if (response.status === 401 && !session.offer && path.startsWith('/v1/') && askForKey) {
      const key = await askForKey(apiKey !== '');
      if (key) {
        apiKey = key;
        response = await request();
      }
    }
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, { message: 'The server cannot be reached.', code: 'unreachable' });
  }
  if (response.ok) return response;
  const error = await errorOf(response);
  // The session has ended, perhaps in another tab: say so everywhere.
  if (error.status === 401 && session.account && path !== '/api/login') refreshSession();
  throw error;
}

export async function call(method, path, body) {
  const response = await send(method, path, body);
  if (response.status === 204) return null;
  return response.json();
}

// Asks who is here and what there is to choose from.
export async function loadSession() {
  setSession(await call('GET', '/api/session'));
  return session;
}

// Where nobody waits for it; who cannot be reached now is asked again.
export function refreshSession() {
  loadSession().catch(() => {});
}

export async function logIn(name, password) {
  setSession(await call('POST', '/api/login', { name, password }));
  return session;
}

// The place in the chat's queue is given up: it is for who is here.
export async function logOut() {
  await call('POST', '/api/chat/leave').catch(() => {}); // who may not chat has none
  await call('POST', '/api/logout');
  return loadSession();
}

// The data of each event of a stream, parsed, until [DONE].
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;  // comments fill silences
      const data = line.slice(5).trim();
      if (data === '[DONE]') return;
      yield JSON.parse(data);
    }
  }
}

// The chunks of a chat completion. Aborting the signal tells the server to stop.
export async function* streamChat(body, signal) {
  const path = session.offer ? '/api/chat/completions' : '/v1/chat/completions';
  const response = await send('POST', path, {
    ...body,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  }, signal);
  for await (const event of events(response)) {
    if (event.error) throw new ApiError(response.status, event.error);
    yield event;
  }
}
