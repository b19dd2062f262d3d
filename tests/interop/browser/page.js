// A page that traces itself: what a click costs, and the request behind it. `?to=URL&as=http|proto` says where spans go; the
// title says what became of them.
import { context, trace } from '@opentelemetry/api';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { SimpleSpanProcessor, WebTracerProvider } from '@opentelemetry/sdk-trace-web';

const wanted = new URLSearchParams(location.search);
const Exporter = wanted.get('as') === 'proto' ? ProtobufExporter : JsonExporter;
// A header of its own, as for a token, makes the browser ask first whether it may.
const exporter = new Exporter({ url: wanted.get('to'), headers: { 'x-site': 'tokyo-1' }, timeoutMillis: 5000 });
const outcomes = [];
const send = exporter.export.bind(exporter);
exporter.export = (spans, done) => send(spans, result => {
  outcomes.push(result.code === 0 ? 'sent' : 'failed');
  document.title = outcomes.length === 2 ? outcomes.join(' ') : document.title;
  done(result);
});
const provider = new WebTracerProvider({
  resource: resourceFromAttributes({ 'service.name': 'shop-page' }),
  spanProcessors: [new SimpleSpanProcessor(exporter)],
});
const tracer = provider.getTracer('interop');
const click = tracer.startSpan('click buy');
const request = tracer.startSpan('POST /purchase', {}, trace.setSpan(context.active(), click));
request.end();
click.end();
