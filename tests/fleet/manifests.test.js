// deploy/fleet/kubernetes against the schemas of its kinds: Kubernetes' own by the npm package
// kubernetes-types, which is made from its OpenAPI, the others by the schemas of their CRDs, in
// schemas/. Then what no schema says: that names meet, that a replica may end in the time it has,
// and that a server has the flags and the metrics.
//
// usage: node manifests.test.js ULTRASPEED
'use strict';

const Ajv = require('ajv');
const assert = require('assert');
const { execFileSync } = require('child_process');
const fs = require('fs');
const yaml = require('js-yaml');
const path = require('path');
const { describe, makeCheck } = require('../npm/schemas.js');
const { model, runTests, startServer } = require('../npm/server.js');

const program = process.argv[2];
const folder = path.join(__dirname, '../../deploy/fleet/kubernetes');
const crds = { Gateway: 'gateways', HTTPRoute: 'httproutes', InferencePool: 'inferencepools' };

const documents = fs.readdirSync(folder).flatMap(
  (file) => yaml.loadAll(fs.readFileSync(path.join(folder, file), 'utf8')));
const clone = (value) => JSON.parse(JSON.stringify(value));
const named = (kind, name = 'ultraspeed') => {
  const found = documents.filter((one) => one.kind === kind && one.metadata.name === name);
  assert.strictEqual(found.length, 1, `${kind} ${name}`);
  return found[0];
};

// Kubernetes drops fields that a schema does not have: here they are errors.
function close(schema) {
  if (Array.isArray(schema)) return schema.map(close);
  if (schema === null || typeof schema !== 'object') return schema;
  const closed = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, close(value)]));
  if (schema.type === 'object' && schema.properties && !('additionalProperties' in schema)) {
    closed.additionalProperties = false;
  }
  return closed;
}

const checkKind = makeCheck(process.env.NODE_PATH, {
  types: path.join(__dirname, 'manifest_types.ts'), additionalProperties: false,
});
const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
const crdChecks = Object.fromEntries(Object.entries(crds).map(([kind, file]) => {
  const text = fs.readFileSync(path.join(__dirname, 'schemas', `${file}.json`), 'utf8');
  return [kind, ajv.compile(close(JSON.parse(text)))];
}));
const groups = {
  Gateway: 'gateway.networking.k8s.io/v1',
  HTTPRoute: 'gateway.networking.k8s.io/v1',
  InferencePool: 'inference.networking.k8s.io/v1',
};

function check(document) {
  const { kind } = document;
  checkKind('MetadataManifest', document.metadata);
  const checkCrd = crdChecks[kind];
  if (checkCrd === undefined) {
    checkKind(`${kind}Manifest`, document);
    assert.ok(document.apiVersion, `${kind} without apiVersion`);
    return;
  }
  assert.strictEqual(document.apiVersion, groups[kind]);
  if (!checkCrd(document)) throw new Error(`not a ${kind}:\n  ${describe(checkCrd.errors)}`);
}

// Every object of a document with the path to it, but those whose keys are free.
const free = new Set(['labels', 'matchLabels', 'selector', 'data', 'requests', 'limits']);
function* objects(value, where = []) {
  if (value === null || typeof value !== 'object') return;
  const key = where.at(-1);
  const hasFreeKeys = free.has(key) && Object.values(value).every((one) => typeof one === 'string');
  if (!Array.isArray(value) && !hasFreeKeys) yield where;
  for (const [name, one] of Object.entries(value)) yield* objects(one, [...where, name]);
}
const at = (document, where) => where.reduce((value, name) => value[name], document);

function checkMutations() {
  let count = 0;
  for (const document of documents) {
    for (const where of objects(document)) {
      const damaged = clone(document);
      at(damaged, where).replicaCount = 1;
      const name = `${document.kind} ${document.metadata.name} /${where.join('/')}`;
      assert.throws(() => check(damaged), /replicaCount/, name);
      count += 1;
    }
  }
  assert.ok(count > 100, `${count} objects`);

  const mutations = [
    ['Deployment', (one) => { delete one.spec.selector; }],
    ['Deployment', (one) => { one.spec.replicas = '3'; }],
    ['Deployment', (one) => { one.apiVersion = 'apps/v1beta1'; }],
    ['Deployment', (one) => { one.spec.template.spec.containers[0].ports[0].containerPort = '8'; }],
    ['Deployment', (one) => { delete one.spec.template.spec.containers[0].name; }],
    ['Deployment', (one) => {
      one.spec.template.spec.containers[0].readinessProbe.httpGet = '/health/ready';
    }],
    ['Service', (one) => { one.spec.ports[0].port = 'http'; }],
    ['PodDisruptionBudget', (one) => { one.spec.maxUnavailable = true; }],
    ['HTTPRoute', (one) => { one.spec.rules[0].matches[0].path.type = 'Prefix'; }],
    ['HTTPRoute', (one) => { one.spec.rules[0].timeouts.request = 'none'; }],
    ['InferencePool', (one) => { one.apiVersion = 'inference.networking.x-k8s.io/v1alpha2'; }],
    ['InferencePool', (one) => { delete one.spec.targetPorts; }],
    ['InferencePool', (one) => { one.spec.targetPorts[0].number = 65536; }],
    ['InferencePool', (one) => { one.spec.endpointPickerRef.failureMode = 'Open'; }],
    ['Gateway', (one) => { one.spec.listeners[0].protocol = 80; }],
  ];
  for (const [kind, mutate] of mutations) {
    const damaged = clone(named(kind));
    mutate(damaged);
    assert.throws(() => check(damaged), `${kind}: ${mutate}`);
  }
}

const container = (name) => named('Deployment', name).spec.template.spec.containers[0];
const containerPort = (name, port) => container(name).ports.find(
  (one) => one.name === port || one.containerPort === port);

function checkNames() {
  const pods = named('Deployment').spec.template.metadata.labels;
  const routerPods = named('Deployment', 'ultraspeed-router').spec.template.metadata.labels;
  const selects = (selector, labels) => {
    for (const [key, value] of Object.entries(selector)) assert.strictEqual(labels[key], value);
  };
  for (const kind of ['Deployment', 'PodDisruptionBudget', 'InferencePool']) {
    selects(named(kind).spec.selector.matchLabels, pods);
  }
  selects(named('NetworkPolicy').spec.podSelector.matchLabels, pods);
  selects(named('Service').spec.selector, pods);
  selects(named('Service', 'ultraspeed-router').spec.selector, routerPods);
  selects(named('NetworkPolicy').spec.ingress[1].from[0].podSelector.matchLabels, routerPods);

  const pool = named('InferencePool');
  for (const { number } of pool.spec.targetPorts) assert.ok(containerPort('ultraspeed', number));
  for (const { ports } of named('NetworkPolicy').spec.ingress) {
    for (const { port } of ports) assert.ok(containerPort('ultraspeed', port), port);
  }
  for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
    assert.ok(containerPort('ultraspeed', container('ultraspeed')[probe].httpGet.port), probe);
  }
  assert.ok(containerPort('ultraspeed', named('Service').spec.ports[0].targetPort));
  const picker = pool.spec.endpointPickerRef;
  const pickerPorts = named('Service', picker.name).spec.ports.map(({ port }) => port);
  assert.ok(pickerPorts.includes(picker.port.number));
  for (const port of pickerPorts) assert.ok(containerPort('ultraspeed-router', port), port);

  const [rule] = named('HTTPRoute').spec.rules;
  assert.strictEqual(rule.backendRefs[0].name, pool.metadata.name);
  assert.strictEqual(named('HTTPRoute').spec.parentRefs[0].name, named('Gateway').metadata.name);
  const { serviceAccountName } = named('Deployment', 'ultraspeed-router').spec.template.spec;
  const binding = named('RoleBinding', 'ultraspeed-router');
  named('ServiceAccount', serviceAccountName);
  named('Role', binding.roleRef.name);
  assert.strictEqual(binding.subjects[0].name, serviceAccountName);
  for (const { name, volumeMounts } of ['ultraspeed', 'ultraspeed-router'].map(container)) {
    const volumes = documents.flatMap((one) => one.spec?.template?.spec.volumes ?? []);
    for (const mount of volumeMounts) {
      assert.ok(volumes.some((volume) => volume.name === mount.name), `${name} ${mount.name}`);
    }
  }
}

// Values of flags as --name=value.
const flagsOf = (name) => Object.fromEntries(container(name).args.map((argument) => {
  const [flag, ...value] = argument.split('=');
  return [flag, value.join('=')];
}));

function checkTimes() {
  const { terminationGracePeriodSeconds, enableServiceLinks } =
    named('Deployment').spec.template.spec;
  const flags = flagsOf('ultraspeed');
  const delay = Number(flags['--drain-delay']);
  const timeout = Number(flags['--shutdown-timeout']);
  assert.ok(terminationGracePeriodSeconds >= delay + timeout + 10, 'killed while it drains');
  const { startupProbe, readinessProbe, livenessProbe } = container('ultraspeed');
  assert.ok(2 * readinessProbe.periodSeconds * readinessProbe.failureThreshold <= delay);
  assert.strictEqual(readinessProbe.httpGet.path, '/health/ready');
  // A server that drains must not be restarted.
  for (const probe of [startupProbe, livenessProbe]) {
    assert.strictEqual(probe.httpGet.path, '/health');
  }
  assert.strictEqual(enableServiceLinks, false, 'ULTRASPEED_PORT would be the Service\'s');
}

const configs = () => Object.entries(named('ConfigMap', 'ultraspeed-router').data).map(
  ([file, text]) => [file, yaml.load(text)]);
const extractorOf = (config) => config.plugins.find(
  ({ type }) => type === 'core-metrics-extractor');

function checkRouterConfigs() {
  const file = path.basename(flagsOf('ultraspeed-router')['--config-file']);
  assert.ok(configs().some(([name]) => name === file), file);
  for (const [name, config] of configs()) {
    assert.strictEqual(config.apiVersion, 'llm-d.ai/v1alpha1', name);
    assert.strictEqual(config.kind, 'EndpointPickerConfig', name);
    const plugins = config.plugins.map((plugin) => plugin.name ?? plugin.type);
    const references = [
      ...config.schedulingProfiles.flatMap((profile) => profile.plugins),
      ...(config.dataLayer?.sources ?? []).flatMap((one) => [one, ...one.extractors]),
    ].map(({ pluginRef }) => pluginRef);
    for (const reference of references) assert.ok(plugins.includes(reference), reference);
    const label = named('Deployment').spec.template.metadata.labels['llm-d.ai/engine-type'];
    const { defaultEngine, engineConfigs } = extractorOf(config).parameters;
    assert.strictEqual(defaultEngine, label);
    assert.deepStrictEqual(engineConfigs.map((one) => one.name), [label]);
  }
  const parametersOf = (plugin) => configs().find(([name]) => name === 'precise.yaml')[1]
    .plugins.find(({ type }) => type === plugin).parameters;
  const { podDiscoveryConfig, topicFilter } =
    parametersOf('precise-prefix-cache-producer').kvEventsConfig;
  const flags = flagsOf('ultraspeed');
  const portOf = (flag) => Number(flags[flag].split(':').at(-1));
  assert.strictEqual(portOf('--kv-events'), podDiscoveryConfig.socketPort);
  for (const flag of ['--kv-events', '--kv-events-replay']) {
    assert.ok(containerPort('ultraspeed', portOf(flag)), flag);
  }
  const [{ number }] = named('InferencePool').spec.targetPorts;
  assert.strictEqual(flags['--kv-events-topic'], `${topicFilter}$(POD_IP):${number}@$(MODEL)`);
  const served = container('ultraspeed').env.find(({ name }) => name === 'MODEL').value;
  assert.strictEqual(parametersOf('token-producer').modelName, served);
}

// Series of a metric in Prometheus' text: [{labels, value}].
function seriesOf(text, name) {
  return text.split('\n').filter((line) => line.startsWith(`${name}{`)).map((line) => {
    const [, labels, value] = /\{(.*)\} (\S+)$/.exec(line);
    return {
      labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(
        ([, key, one]) => [key, one])),
      value: Number(value),
    };
  });
}

async function checkServer() {
  const flags = flagsOf('ultraspeed');
  const help = execFileSync(program, ['serve', '--help'], { encoding: 'utf8' });
  for (const flag of Object.keys(flags)) assert.ok(help.includes(flag), flag);
  const options = Object.entries(flags).map(([flag, value]) => {
    const text = value.replace('$(MODEL)', model).replace('$(POD_IP)', '127.0.0.1');
    const isEndpoint = text.startsWith('tcp://');
    return value === '' ? flag : `${flag}=${isEndpoint ? 'tcp://127.0.0.1:*' : text}`;
  }).filter((option) => !option.startsWith('--drain-delay'));
  const server = await startServer(program, options);
  const ask = (route, init) => fetch(`${server.url}${route}`, init);
  for (const { httpGet } of ['startupProbe', 'readinessProbe', 'livenessProbe'].map(
    (probe) => container('ultraspeed')[probe])) {
    assert.strictEqual((await ask(httpGet.path)).status, 200);
  }
  // Its prompt fills a block: an event.
  const answer = await ask('/v1/completions', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ model, prompt: 'one two three '.repeat(60), max_tokens: 2 }),
  });
  assert.strictEqual(answer.status, 200);
  const text = await (await ask('/metrics')).text();
  for (const [, config] of configs()) {
    const [specs] = extractorOf(config).parameters.engineConfigs;
    for (const name of [specs.queuedRequestsSpec, specs.runningRequestsSpec, specs.kvUsageSpec]) {
      assert.ok(text.includes(`# TYPE ${name} gauge`), name);
      const [series] = seriesOf(text, name);
      assert.ok(series.value >= 0 && series.value <= 1, `${name} of an idle server`);
    }
    const [{ labels }] = seriesOf(text, specs.cacheInfoSpec);
    assert.ok(Number(labels.block_size) > 0 && Number(labels.num_gpu_blocks) > 0);
    const producer = config.plugins.find(({ type }) => type === 'precise-prefix-cache-producer');
    const blockSize = producer?.parameters.tokenProcessorConfig.blockSize ?? 64;
    assert.strictEqual(Number(labels.block_size), blockSize);
  }
  assert.ok(seriesOf(text, 'ultraspeed:kv_event_batches_total')[0].value > 0);
  assert.strictEqual(seriesOf(text, 'ultraspeed:kv_event_batches_dropped_total')[0].value, 0);
  await server.stop();
}

runTests('fleet manifests', {
  'documents are of their kinds': () => documents.forEach(check),
  'damaged documents are not': checkMutations,
  'names meet': checkNames,
  'a replica has the time to end': checkTimes,
  'the router\'s configurations': checkRouterConfigs,
  'a server has the flags and the metrics': checkServer,
}).then((passed) => process.exit(passed ? 0 : 1));
