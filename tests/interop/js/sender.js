// Sends all three signals with the OpenTelemetry SDK for Node, by the standard OTEL_EXPORTER_OTLP_* variables, and prints
// as JSON what was sent. Ends with a status other than 0 when an export failed.
import { context, diag, DiagLogLevel, SpanKind, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

const service = 'checkout-js';
const packages = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };
const failures = [];

/** Wraps an exporter so that a failed export is noted: the processors keep it to themselves. */
function watched(exporter) {
  const send = exporter.export.bind(exporter);
  exporter.export = (items, done) => send(items, result => {
    if (result.code !== 0) failures.push(String(result.error));
    done(result);
  });
  return exporter;
}

async function exporter(signal, kind) {
  const name = packages[process.env.OTEL_EXPORTER_OTLP_PROTOCOL];
  const library = await import(`@opentelemetry/exporter-${signal}-otlp-${name}`);
  return watched(new library[kind]());
}

const complain = message => failures.push(message);
diag.setLogger({ error: complain, warn: complain, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const resource = resourceFromAttributes({ 'service.name': service, 'deployment.environment': 'development' });
// Cuts between the two halves of an emoji: what JSON then holds is no Unicode.
const spanLimits = { attributeValueLengthLimit: 64 };
const emoji = 'x'.repeat(63) + '😀';
const traces = new TracerProvider({ resource, spanLimits, spanProcessors: [new BatchSpanProcessor({ exporter: await exporter('trace', 'OTLPTraceExporter') })] });
const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: await exporter('logs', 'OTLPLogExporter') })] });
const metrics = new MeterProvider({ resource, readers: [new PeriodicExportingMetricReader({ exporter: await exporter('metrics', 'OTLPMetricExporter') })] });
const tracer = traces.getTracer('interop', '1.0');
const logger = logs.getLogger('interop', '1.0');
const meter = metrics.getMeter('interop', '1.0');
const report = { service, spans: [], logs: [], metrics: [] };

function start(name, parent, options) {
  const span = tracer.startSpan(name, options, parent);
  const { traceId, spanId } = span.spanContext();
  report.spans.push({ trace_id: traceId, span_id: spanId, name });
  return trace.setSpan(parent, span);
}

function log(where, body, severityNumber, attributes) {
  logger.emit({ context: where, timestamp: Date.now(), body, severityNumber, severityText: SeverityNumber[severityNumber], attributes });
  const ids = trace.getSpanContext(where);
  report.logs.push({ trace_id: ids?.traceId ?? '', span_id: ids?.spanId ?? '', body });
}

const carts = meter.createCounter('carts', { unit: '1', description: 'Carts checked out' });
const total = meter.createHistogram('cart.total', { unit: 'EUR' });
const stock = meter.createGauge('stock.free');
const root = context.active();
log(root, 'checkout started', SeverityNumber.INFO, { region: 'eu', workers: 2 });
const cart = start('check out', root, { kind: SpanKind.SERVER });
for (let i = 0; i < 4; i++) {
  const item = start(`item ${i}`, cart, { attributes: { index: i, price: i * 1.5, gift: i % 2 === 0, tags: ['a', 'b'], emoji } });
  log(item, `added item ${i}`, i ? SeverityNumber.WARN : SeverityNumber.DEBUG, { price: i * 1.5, nested: { list: [1, 'two', false] } });
  trace.getSpan(item).addEvent('priced', { currency: 'EUR' });
  trace.getSpan(item).end();
  carts.add(1, { lane: i % 2 });
  total.record(i * 1.5);
}
trace.getSpan(cart).end();
stock.record(42);
log(root, 'checkout stopped: größe ✓ 日本', SeverityNumber.ERROR, {});
report.metrics = [{ name: 'carts', points: 2 }, { name: 'cart.total', points: 1 }, { name: 'stock.free', points: 1 }];

for (const provider of [traces, logs, metrics]) await provider.shutdown();
if (failures.length > 0) {
  console.error(`export failed: ${failures.join('; ')}`);
  process.exit(1);
}
console.log(JSON.stringify(report));
