// The first service of the shop that the tests of the page look at: node:http that calls cart with fetch, both instrumented.
// It listens on 127.0.0.1:$PORT until SIGTERM; CART_URL says where cart is.
const { context, metrics, propagation, SpanStatusCode, trace } = require('@opentelemetry/api');
const { SeverityNumber } = require('@opentelemetry/api-logs');
const { AsyncLocalStorageContextManager } = require('@opentelemetry/context-async-hooks');
const { getRPCMetadata, W3CTraceContextPropagator } = require('@opentelemetry/core');
const { OTLPLogExporter } = require('@opentelemetry/exporter-logs-otlp-proto');
const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-proto');
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-proto');
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { UndiciInstrumentation } = require('@opentelemetry/instrumentation-undici');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');
const { BatchSpanProcessor, TracerProvider } = require('@opentelemetry/sdk-trace');

const resource = resourceFromAttributes({ 'service.name': 'frontend', 'service.version': '0.9.0' });
const traces = new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })] });
const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })] });
const interval = Number(process.env.OTEL_METRIC_EXPORT_INTERVAL);
const reader = new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(), exportIntervalMillis: interval, exportTimeoutMillis: interval / 2 });
const meters = new MeterProvider({ resource, readers: [reader] });
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());
trace.setGlobalTracerProvider(traces);
metrics.setGlobalMeterProvider(meters);
// The exporters' own requests are no part of the shop.
const ignoreOutgoingRequestHook = request => String(request.path).startsWith('/v1/');
const instrumentations = [new HttpInstrumentation({ ignoreOutgoingRequestHook }), new UndiciInstrumentation()];
registerInstrumentations({ instrumentations, tracerProvider: traces, meterProvider: meters });

// Required here, where its instrumentation sees it.
const http = require('node:http');
const logger = logs.getLogger('frontend');
const views = meters.getMeter('frontend').createCounter('shop.views', { unit: '{view}', description: 'Pages shown, by route' });
const routes = { 'GET /products': '/items', 'POST /checkout': '/checkout', 'GET /recommendations': '/recommendations' };

function log(severityNumber, body, attributes) {
  logger.emit({ severityNumber, severityText: SeverityNumber[severityNumber], body, attributes, context: context.active() });
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://shop');
  const to = routes[`${request.method} ${url.pathname}`];
  if (!to) return response.writeHead(404).end();
  const metadata = getRPCMetadata(context.active());
  if (metadata) metadata.route = url.pathname;
  views.add(1, { route: url.pathname });
  log(SeverityNumber.INFO, `${request.method} ${url.pathname}`, { 'session.id': 's-4711' });
  const called = await fetch(`${process.env.CART_URL}${to}${url.search}`, { method: request.method });
  await called.text();
  if (!called.ok) {
    log(SeverityNumber.ERROR, 'the shop is out of order', { status: called.status });
    trace.getActiveSpan()?.setStatus({ code: SpanStatusCode.ERROR, message: 'cart is out of order' });
  }
  response.writeHead(called.status).end();
}

const server = http.createServer((request, response) => answer(request, response).catch(error => {
  log(SeverityNumber.FATAL, String(error), {});
  response.writeHead(500).end();
}));
server.listen(Number(process.env.PORT), '127.0.0.1');
process.on('SIGTERM', async () => {
  server.close();
  server.closeAllConnections();
  for (const provider of [traces, logs, meters]) await provider.shutdown();
  process.exit(0);
});
