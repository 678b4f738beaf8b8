// The clients: how each is configured, and the tool by which it is made to write a file.
'use strict';

const fs = require('fs');
const path = require('path');

const key = 'unused'; // most clients insist on one
const contextSize = 65536;

function writeJson(file, value) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, JSON.stringify(value, null, 2));
}

// opencode brings the npm package of a provider with it.
function opencodeConfig(npm, setting) {
  writeJson(path.join(setting.work, 'opencode.json'), {
    provider: {
      ultraspeed: {
        npm,
        name: 'UltraSpeed',
        options: { baseURL: `${setting.url}/v1`, apiKey: key },
        models: {
          [setting.model]: {
            tool_call: true, reasoning: true, limit: { context: contextSize, output: 8192 },
          },
        },
      },
    },
    model: `ultraspeed/${setting.model}`,
    permission: 'allow',
    autoupdate: false,
    share: 'disabled',
  });
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

function codexConfig({ home, url, model }, more = '') {
  fs.mkdirSync(path.join(home, '.codex'), { recursive: true });
  fs.writeFileSync(path.join(home, '.codex/config.toml'), `
model = "${model}"
model_provider = "ultraspeed"
model_context_window = ${contextSize}
[model_providers.ultraspeed]
name = "UltraSpeed"
base_url = "${url}/v1"
wire_api = "responses"
${more}`);
}

// `more`: lines of the provider's configuration.
function codex(route, more) {
  return {
    package: '@openai/codex',
    route,
    tool: {
      name: 'exec_command',
      input: (file, content) => ({ cmd: `printf '%s' '${content}' > '${file}'` }),
    },
    configure: (setting) => codexConfig(setting, more),
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
    configure: () => {},
    command: ({ modules, task }) => [
      process.execPath, path.join(modules, '@qwen-code/qwen-code/cli-entry.js'),
      '--auth-type', 'openai', '--approval-mode', 'yolo', '--prompt', task],
    env: ({ url, model }) => ({
      OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_KEY: key, OPENAI_MODEL: model,
    }),
  },
  'Claude Code': {
    package: '@anthropic-ai/claude-code-linux-x64',
    route: 'POST /v1/messages',
    tool: { name: 'Write', input: (file, content) => ({ file_path: file, content }) },
    configure: () => {},
    command: ({ modules, model, task }) => [
      path.join(modules, '@anthropic-ai/claude-code-linux-x64/claude'),
      '--model', model, '--permission-mode', 'acceptEdits', '--print', task],
    env: ({ url, model }) => ({
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_AUTH_TOKEN: key,
      ANTHROPIC_DEFAULT_HAIKU_MODEL: model,
      CLAUDE_CODE_MAX_CONTEXT_TOKENS: String(contextSize),
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    }),
  },
  Codex: codex('POST /v1/responses', ''),
  'Codex (WebSocket)': codex('WebSocket /v1/responses', 'supports_websockets = true\n'),
};

module.exports = { clients, contextSize };
