// The clients: how each is configured, and the tool by which it is made to write a file.
'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');

const key = 'unused'; // most clients insist on one
const contextSize = 65536;

// What `ultraspeed connect` prints, but for the provider's package and what a run without people
// needs.
function opencodeConfig(npm, setting) {
  const config = JSON.parse(setting.connect('opencode'));
  const { provider: { ultraspeed } } = config;
  ultraspeed.npm = npm;
  if (npm !== '@ai-sdk/openai-compatible') ultraspeed.options.apiKey = key;
  Object.assign(config, { permission: 'allow', autoupdate: false, share: 'disabled' });
  fs.writeFileSync(path.join(setting.work, 'opencode.json'), JSON.stringify(config, null, 2));
}

function opencode(npm, route) {
  return {
    package: 'opencode-linux-x64-baseline',
    route,
    tool: { name: 'write', input: (file, content) => ({ filePath: file, content }) },
    configure: (setting) => opencodeConfig(npm, setting),
    command: ({ modules, task }) => [
      path.join(modules, 'opencode-linux-x64-baseline/bin/opencode'), 'run', task],
    env: () => ({ OPENCODE_DISABLE_MODELS_FETCH: '1', OPENCODE_DISABLE_AUTOUPDATE: '1' }),
  };
}

function codexConfig(setting, speaksWebSocket) {
  const file = path.join(setting.home, '.codex/config.toml');
  const config = setting.connect('codex');
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const line = 'supports_websockets = true\n';
  fs.writeFileSync(file, speaksWebSocket ? config : config.replace(line, ''));
}

// The variables that a script of `export NAME=VALUE` lines sets.
function exported(script) {
  const lines = execFileSync(
    'env', ['-i', '/bin/bash', '-c', `${script}env -0`], { encoding: 'utf8' });
  return Object.fromEntries(lines.split('\0').filter((line) => line !== '').map((line) => {
    const end = line.indexOf('=');
    return [line.slice(0, end), line.slice(end + 1)];
  }));
}

function codex(route, speaksWebSocket) {
  return {
    package: '@openai/codex',
    route,
    tool: {
      name: 'exec_command',
      input: (file, content) => ({ cmd: `printf '%s' '${content}' > '${file}'` }),
    },
    configure: (setting) => codexConfig(setting, speaksWebSocket),
    command: ({ modules, task }) => [
      path.join(modules, '@openai/codex/vendor/x86_64-unknown-linux-musl/bin/codex'), 'exec',
      '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', task],
    env: () => ({}),
  };
}

// A program of ours on a client library.
function sdk(packageName, program, route) {
  return {
    package: packageName,
    route,
    tool: { name: 'write_file', input: (file, content) => ({ path: file, content }) },
    configure: () => {},
    command: ({ task }) => [process.execPath, path.join(__dirname, program), task],
    env: ({ modules, url, model }) => ({ NODE_PATH: modules, SERVER_URL: url, MODEL: model }),
  };
}

const clients = {
  'openai SDK': sdk('openai', 'openai_sdk.js', 'POST /v1/chat/completions'),
  'openai SDK (Responses)': sdk('openai', 'openai_responses_sdk.js', 'POST /v1/responses'),
  // Its loop asks for a conversation that the server holds, and goes on without.
  'anthropic SDK': {
    ...sdk('@anthropic-ai/sdk', 'anthropic_sdk.js', 'POST /v1/messages'), refusals: 1,
  },
  opencode: opencode('@ai-sdk/openai-compatible', 'POST /v1/chat/completions'),
  'opencode (Anthropic)': opencode('@ai-sdk/anthropic', 'POST /v1/messages'),
  'opencode (Responses)': opencode('@ai-sdk/openai', 'POST /v1/responses'),
  'qwen-code': {
    package: '@qwen-code/qwen-code',
    route: 'POST /v1/chat/completions',
    tool: { name: 'write_file', input: (file, content) => ({ file_path: file, content }) },
    configure: (setting) => {
      const file = path.join(setting.home, '.qwen/settings.json');
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, setting.connect('qwen-code'));
    },
    command: ({ modules, task }) => [
      process.execPath, path.join(modules, '@qwen-code/qwen-code/cli-entry.js'),
      '--approval-mode', 'yolo', '--prompt', task],
    env: () => ({}),
  },
  'Claude Code': {
    package: '@anthropic-ai/claude-code-linux-x64',
    route: 'POST /v1/messages',
    tool: { name: 'Write', input: (file, content) => ({ file_path: file, content }) },
    configure: () => {},
    command: ({ modules, model, task }) => [
      path.join(modules, '@anthropic-ai/claude-code-linux-x64/claude'),
      '--model', model, '--permission-mode', 'acceptEdits', '--print', task],
    env: ({ connect }) => {
      const { PWD, SHLVL, _, PATH, ...variables } = exported(connect('claude'));
      return variables;
    },
  },
  Codex: codex('POST /v1/responses', false),
  'Codex (WebSocket)': codex('WebSocket /v1/responses', true),
};

module.exports = { clients, contextSize };
