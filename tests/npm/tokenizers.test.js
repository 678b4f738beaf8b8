// Compares our tokenizer with the npm package "tokenizers" (Hugging Face's own library) on random
// texts, for the bundled tokenizer and for variants of it in the manner of other families.
//
// usage: node tokenizers.test.js TOKENIZER_DUMP
//
// Left out are code points that are newer than somebody's Unicode tables: those without a category
// in our regular expressions (PCRE2 10.42: Unicode 14), and those whose NFC the reference does not
// know (it has Unicode 9), found by comparing it with this JavaScript engine.
'use strict';

const { spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { nfcNormalizer, Tokenizer } = require('tokenizers');
const { TextGenerator } = require('./random_text.js');
const { makeVariants } = require('./tokenizer_variants.js');

const RANDOM_TEXTS = 3000; // for each variant
const MAX_PARTS = 24;
const COVERAGE_TEXT_SIZE = 60;
const PRIVATE_USE = [0xe000, 0xf8ff];
const LAST_ASSIGNED_PLANE = 0x3ffff; // planes 15 and 16 are private use, 14 is tags and selectors

const program = process.argv[2];
const bundledPath = path.join(__dirname, '../../models/tiny-mimo/tokenizer.json');
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'ultraspeed-npm-'));
let failures = 0;

function run(args, input) {
  const result = spawnSync(program, args, { input, encoding: 'utf8', maxBuffer: 1 << 30 });
  if (result.status !== 0) throw new Error(`${program} ${args}: ${result.stderr || result.error}`);
  return result.stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line));
}

// The code points whose NFC the reference and JavaScript see alike: alone, behind a mark that it
// may have to move before, and put together from their decomposition.
function hasKnownNfc(codePoint, normalizer) {
  const character = String.fromCodePoint(codePoint);
  return [character, `e\u0315${character}`, character.normalize('NFD')].every(
    (text) => normalizer.normalizeString(text) === text.normalize('NFC'));
}

function comparableCodePoints() {
  const unassigned = run(['--unassigned']);
  const normalizer = nfcNormalizer();
  const codePoints = [];
  let exempt = 0;
  for (let c = 0, gap = 0; c <= LAST_ASSIGNED_PLANE; ++c) {
    while (gap < unassigned.length && unassigned[gap][1] < c) ++gap;
    if (gap < unassigned.length && unassigned[gap][0] <= c) continue;
    if (c >= 0xd800 && c <= 0xdfff) continue;
    if (c > PRIVATE_USE[0] && c < PRIVATE_USE[1]) continue; // its ends stand for all
    if (hasKnownNfc(c, normalizer)) codePoints.push(c);
    else ++exempt;
  }
  console.log(`${codePoints.length} code points compared, ` +
    `${exempt} left out as newer than the reference's NFC`);
  if (codePoints.length < 140000) throw new Error('too few code points left to compare');
  return codePoints;
}

function dump(name, json, requests) {
  const file = path.join(scratch, `${name}.json`);
  fs.writeFileSync(file, JSON.stringify(json));
  return run([file], requests.map((request) => JSON.stringify(request) + '\n').join(''));
}

async function reference(json, requests) {
  const tokenizer = Tokenizer.fromString(JSON.stringify(json));
  const answers = [];
  for (const request of requests) {
    const options = { addSpecialTokens: request.add_special_tokens };
    const encoding = await tokenizer.encode(request.text, null, options);
    const ids = Array.from(encoding.getIds());
    answers.push({ ids, decoded: await tokenizer.decode(ids, request.skip_special) });
  }
  return answers;
}

function differences(requests, ours, theirs) {
  const different = [];
  for (let i = 0; i < requests.length; ++i) {
    const sameIds = JSON.stringify(ours[i].ids) === JSON.stringify(theirs[i].ids);
    if (!sameIds || ours[i].decoded !== theirs[i].decoded) {
      different.push({ text: requests[i].text, ours: ours[i], theirs: theirs[i] });
    }
  }
  return different;
}

async function compare(name, variant, texts) {
  const requests = texts.map((text, i) => (
    { text, add_special_tokens: variant.addSpecialTokens, skip_special: i % 2 === 1 }));
  const ours = dump(name, variant.json, requests);
  const different = differences(requests, ours, await reference(variant.json, requests));
  console.log(`${name}: ${texts.length} texts, ${different.length} differ`);
  for (const one of different.slice(0, 3)) console.log(JSON.stringify(one));
  failures += different.length > 0 ? 1 : 0;
}

// The comparison must be able to fail: two swapped merges have to show.
async function checkSensitivity(bundled, texts) {
  const merges = bundled.model.merges.slice();
  [merges[3], merges[40]] = [merges[40], merges[3]];
  const mutated = { ...bundled, model: { ...bundled.model, merges } };
  const requests = texts.map((text) => ({ text, add_special_tokens: false, skip_special: false }));
  const ours = dump('mutated', mutated, requests);
  const different = differences(requests, ours, await reference(bundled, requests));
  console.log(`mutated: ${different.length} of ${texts.length} texts differ, as they should`);
  failures += different.length > 0 ? 0 : 1;
}

async function main() {
  const bundled = JSON.parse(fs.readFileSync(bundledPath, 'utf8'));
  const codePoints = comparableCodePoints();
  const variants = makeVariants(bundled);
  let seed = 1;
  for (const [name, variant] of Object.entries(variants)) {
    const specials = variant.json.added_tokens.map((token) => token.content);
    const generator = new TextGenerator(seed++, specials, codePoints);
    const texts = Array.from({ length: RANDOM_TEXTS }, () => generator.text(MAX_PARTS));
    await compare(name, variant, texts.concat(generator.coverage(COVERAGE_TEXT_SIZE)));
    if (name === 'bundled') await checkSensitivity(bundled, texts);
  }
  if (failures > 0) throw new Error(`${failures} comparisons failed`);
  console.log('all ids and decoded texts are equal');
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
}).finally(() => fs.rmSync(scratch, { recursive: true, force: true }));
