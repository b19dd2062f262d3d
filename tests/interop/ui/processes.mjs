// The programs around the browser: collectors, the page, the shop. Each is ended by whom it was started for.
import { spawn } from 'node:child_process';
import { mkdirSync, openSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const READY_SECONDS = 60;
const running = [];

export async function until(what, condition, seconds = 15) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(50);
  }
}

export async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise(done => {
    const server = createServer().listen(0, '127.0.0.1', () => done(server));
  })));
  const ports = servers.map(server => server.address().port);
  await Promise.all(servers.map(server => new Promise(done => server.close(done))));
  return ports;
}

/** Starts a program; its output goes to `folder/name.log`, and `said(pattern)` waits for a line in it. */
function start(folder, name, command, args, env = {}) {
  mkdirSync(folder, { recursive: true });
  const log = openSync(join(folder, `${name}.log`), 'w');
  const kept = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(OTEL|MISAKI)_/.test(key)));
  const child = spawn(command, args, { env: { ...kept, XDG_RUNTIME_DIR: folder, NO_PROXY: '127.0.0.1,localhost', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const program = { name, child, text: '', ended: new Promise(done => child.on('exit', done)) };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', piece => {
      if (program.text.length < 1e6) program.text += piece;
      writeFileSync(log, piece);
    });
  }
  program.said = pattern => until(`${name} says ${pattern}`, () => {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}: ${program.text.slice(-1500)}`);
    return pattern.exec(program.text);
  }, READY_SECONDS);
  running.push(program);
  return program;
}

export async function stop(program) {
  if (program.child.exitCode === null && program.child.signalCode === null) program.child.kill('SIGTERM');
  const status = await Promise.race([program.ended, sleep(20_000, 'no end')]);
  if (status === 'no end') program.child.kill('SIGKILL');
  return status;
}

export async function stopAll() {
  while (running.length > 0) await stop(running.pop());
}

const PIPELINES = `
receivers:
  otlp:
    protocols:
      http: {endpoint: '127.0.0.1:HTTP'}
processors:
  filter/noise:
    logs: {log_record: ['severity_number > 0 and severity_number < 9']}
  batch: {timeout: 200ms}
exporters:
  debug: {verbosity: basic}
  otlp_http/management: {endpoint: 'http://127.0.0.1:UPSTREAM', sending_queue: {queue_size: 100}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: &all {receivers: [otlp], processors: [filter/noise, batch], exporters: [debug, otlp_http/management]}
    logs: *all
    metrics: *all
`;

/** A collector; its upstream, if it has one, does not answer, so that its queue has something in it. */
export async function startCollector(misaki, folder, name, hasUpstream) {
  const [http, upstream] = await freePorts(2);
  mkdirSync(folder, { recursive: true });
  const config = join(folder, `${name}.yaml`);
  const text = PIPELINES.replace('HTTP', http).replace('UPSTREAM', upstream);
  writeFileSync(config, hasUpstream ? text : text.replace(', otlp_http/management]', ']').replace(/^  otlp_http.*\n/m, ''));
  const program = start(folder, name, misaki, ['--config', config]);
  await until(`${name} listens`, () => fetch(`http://127.0.0.1:${http}/`).then(() => true, () => program.child.exitCode !== null));
  if (program.child.exitCode !== null) throw new Error(`${name} ended: ${program.text.slice(-1500)}`);
  return { ...program, http: `http://127.0.0.1:${http}` };
}

/** `misaki ui` with these arguments; `address` is what it prints. */
export const startPage = (misaki, folder, name, args) => withPage(start(folder, name, misaki, ['ui', ...args]));

/** A program with a page of its own. */
export const startBeside = (misaki, folder, command, env) => withPage(start(folder, 'command', misaki, ['--ui', '--', ...command], env));

async function withPage(program) {
  const [address] = await program.said(/http:\/\/\S+\?token=[^\s]+/);
  return { ...program, address, origin: new URL(address).origin };
}

export async function startShop(script, folder, to, requests) {
  const program = start(folder, 'shop', script, ['--to', to, '--requests', String(requests), '--stay']);
  const [, url] = await program.said(/the shop is open: (\S+)/);
  return { ...program, url };
}

export async function post(http, signal, request) {
  const answer = await fetch(`${http}/v1/${signal}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) });
  if (!answer.ok) throw new Error(`${signal} answered ${answer.status}: ${(await answer.text()).slice(0, 300)}`);
}
