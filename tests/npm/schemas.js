// JSON schemas of types in a TypeScript file, made from the declarations of the npm packages.
'use strict';

const Ajv = require('ajv');
const fs = require('fs');
const path = require('path');
const {
  DEFAULT_CONFIG, SchemaGenerator, createFormatter, createParser,
} = require('ts-json-schema-generator');
const ts = require('typescript');

// The types' packages are found from the folder where they are installed.
function createProgram(types, folder) {
  const file = path.join(folder, path.basename(types));
  fs.copyFileSync(types, file);
  const program = ts.createProgram([file], {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    esModuleInterop: true,
    module: ts.ModuleKind.CommonJS,
    moduleResolution: ts.ModuleResolutionKind.Node10,
    target: ts.ScriptTarget.ES2022,
    types: [],
  });
  const problems = ts.getPreEmitDiagnostics(program).map(
    ({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
  if (problems.length > 0) throw new Error(`${types}: ${problems.join('\n')}`);
  return program;
}

// Of the branches of a union, the one that came furthest says what is wrong, and hardly one of
// another "type".
function describe(all) {
  const others = all.filter(({ keyword }) => keyword !== 'const');
  const errors = others.length > 0 ? others : all;
  const depth = ({ instancePath }) => instancePath.split('/').length;
  const deepest = Math.max(...errors.map(depth));
  const sentences = errors.filter((error) => depth(error) === deepest).map(
    ({ instancePath, message, params }) => `${instancePath || '/'} ${message} ${
      JSON.stringify(params)}`);
  return [...new Set(sentences)].join('\n  ');
}

const apiTypes = path.join(__dirname, 'schema_types.ts');

// check(type, value) throws where the value is not of the type of that name in the file. Fields
// beside the type's are allowed unless said otherwise: servers and clients extend the APIs.
function makeCheck(modules, { types = apiTypes, additionalProperties = true } = {}) {
  const folder = fs.mkdtempSync(path.join(path.dirname(modules), 'types-'));
  const program = createProgram(types, folder);
  fs.rmSync(folder, { recursive: true });
  const config = { ...DEFAULT_CONFIG, additionalProperties, skipTypeCheck: true };
  const generator = new SchemaGenerator(
    program, createParser(program, config), createFormatter(config), config);
  const ajv = new Ajv({ strict: false, allErrors: true });
  const compiled = {};
  return (type, value) => {
    // Each by itself: both packages have a Model.
    compiled[type] ??= ajv.compile(generator.createSchema(type));
    const validate = compiled[type];
    if (validate(value)) return;
    throw new Error(`not a ${type}:\n  ${describe(validate.errors)}\n${JSON.stringify(value)}`);
  };
}

module.exports = { describe, makeCheck };
