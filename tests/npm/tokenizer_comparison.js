// What the tests of tokenizers have in common: our answers from a tokenizer_dump, the reference's,
// and the report of what differs.
'use strict';

const { spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

// The reference's answers to requests {text, add_special_tokens, skip_special}.
async function reference(tokenizer, requests) {
  const answers = [];
  for (const request of requests) {
    const options = { addSpecialTokens: request.add_special_tokens };
    const ids = Array.from((await tokenizer.encode(request.text, null, options)).getIds());
    answers.push({ decoded: await tokenizer.decode(ids, request.skip_special), ids });
  }
  return answers;
}

function differences(inputs, ours, theirs) {
  const different = [];
  for (let i = 0; i < inputs.length; ++i) {
    if (JSON.stringify(ours[i]) !== JSON.stringify(theirs[i])) {
      different.push({ input: inputs[i], ours: ours[i], theirs: theirs[i] });
    }
  }
  return different;
}

class Comparison {
  constructor(program) {
    this.program = program;
    this.scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'ultraspeed-tokenizers-'));
    this.failures = 0;
  }

  // Writes a tokenizer.json; returns its path.
  write(name, json) {
    const file = path.join(this.scratch, `${name}.json`);
    fs.writeFileSync(file, JSON.stringify(json));
    return file;
  }

  // What tokenizer_dump ARGUMENT answers to requests.
  run(argument, requests = []) {
    const input = requests.map((request) => JSON.stringify(request) + '\n').join('');
    const options = { input, encoding: 'utf8', maxBuffer: 1 << 30 };
    const result = spawnSync(this.program, [argument], options);
    if (result.status !== 0) {
      throw new Error(`${this.program} ${argument}: ${result.stderr || result.error}`);
    }
    return result.stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line));
  }

  report(name, inputs, ours, theirs) {
    const different = differences(inputs, ours, theirs);
    console.log(`${name}: ${inputs.length} inputs, ${different.length} differ`);
    for (const one of different.slice(0, 3)) console.log(JSON.stringify(one));
    this.failures += different.length > 0 ? 1 : 0;
  }

  // Runs the test; the process fails if it throws or a comparison has failed.
  async test(compareAll) {
    try {
      await compareAll();
      if (this.failures > 0) throw new Error(`${this.failures} comparisons failed`);
      console.log('all ids and decoded texts are equal');
    } catch (error) {
      console.error(error.message);
      process.exitCode = 1;
    } finally {
      fs.rmSync(this.scratch, { recursive: true, force: true });
    }
  }
}

module.exports = { Comparison, differences, reference };
