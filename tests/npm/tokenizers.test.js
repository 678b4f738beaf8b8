// Compares our tokenizer with the npm package "tokenizers" (Hugging Face's own library) on random
// texts, for the bundled tokenizer and for variants of it in the manner of other families.
//
// usage: node tokenizers.test.js TOKENIZER_DUMP
//
// Left out are code points that are newer than somebody's Unicode tables: those without a category
// in our regular expressions (PCRE2 10.42: Unicode 14), and those whose NFC the reference does not
// know (it has Unicode 9), found by comparing it with this JavaScript engine.
'use strict';

const fs = require('fs');
const path = require('path');
const { nfcNormalizer, Tokenizer } = require('tokenizers');
const { TextGenerator } = require('./random_text.js');
const { Comparison, differences, reference } = require('./tokenizer_comparison.js');
const { makeVariants } = require('./tokenizer_variants.js');

const RANDOM_TEXTS = 3000; // for each variant
const MAX_PARTS = 24;
const COVERAGE_TEXT_SIZE = 60;
const PRIVATE_USE = [0xe000, 0xf8ff];
const LAST_ASSIGNED_PLANE = 0x3ffff; // planes 15 and 16 are private use, 14 is tags and selectors

const bundledPath = path.join(__dirname, '../../models/tiny-mimo/tokenizer.json');
const comparison = new Comparison(process.argv[2]);

// The code points whose NFC the reference and JavaScript see alike: alone, behind a mark that it
// may have to move before, and put together from their decomposition.
function hasKnownNfc(codePoint, normalizer) {
  const character = String.fromCodePoint(codePoint);
  return [character, `e\u0315${character}`, character.normalize('NFD')].every(
    (text) => normalizer.normalizeString(text) === text.normalize('NFC'));
}

function comparableCodePoints() {
  const unassigned = comparison.run('--unassigned');
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
  return comparison.run(comparison.write(name, json), requests);
}

function referenceOf(json, requests) {
  return reference(Tokenizer.fromString(JSON.stringify(json)), requests);
}

async function compare(name, variant, texts) {
  const requests = texts.map((text, i) => (
    { text, add_special_tokens: variant.addSpecialTokens, skip_special: i % 2 === 1 }));
  const ours = dump(name, variant.json, requests);
  comparison.report(name, requests, ours, await referenceOf(variant.json, requests));
}

// The comparison must be able to fail: two swapped merges have to show.
async function checkSensitivity(bundled, texts) {
  const merges = bundled.model.merges.slice();
  [merges[3], merges[40]] = [merges[40], merges[3]];
  const mutated = { ...bundled, model: { ...bundled.model, merges } };
  const requests = texts.map((text) => ({ text, add_special_tokens: false, skip_special: false }));
  const ours = dump('mutated', mutated, requests);
  const different = differences(requests, ours, await referenceOf(bundled, requests));
  console.log(`mutated: ${different.length} of ${texts.length} texts differ, as they should`);
  comparison.failures += different.length > 0 ? 0 : 1;
}

async function compareAll() {
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
}

comparison.test(compareAll);
