"""Sends all three signals with the OpenTelemetry SDK for Python, by the standard OTEL_EXPORTER_OTLP_* variables, and prints
as JSON what was sent. Ends with a status other than 0 when an export failed: the exporters say so only in their log."""
import importlib, json, logging, os, sys, time

from opentelemetry import context, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SERVICE, ITEMS = "warehouse-python", 4


class Failures(logging.Handler):
    """Collects what the SDK logs at warning and above."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def exporter(signal, kind):
    transport = {"grpc": "grpc", "http/protobuf": "http"}[os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]]
    return getattr(importlib.import_module(f"opentelemetry.exporter.otlp.proto.{transport}.{signal}_exporter"), kind)()


def main():
    failures = Failures()
    logging.getLogger().addHandler(failures)
    resource = Resource.create({"service.name": SERVICE, "deployment.environment": "development"})
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(exporter("trace", "OTLPSpanExporter")))
    logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(exporter("_log", "OTLPLogExporter")))
    metrics = MeterProvider([PeriodicExportingMetricReader(exporter("metric", "OTLPMetricExporter"))], resource, shutdown_on_exit=False)
    report = {"service": SERVICE, "spans": [], "logs": [], "metrics": []}
    tracer, logger, meter = traces.get_tracer("interop", "1.0"), logs.get_logger("interop", "1.0"), metrics.get_meter("interop", "1.0")

    def sent_span(span, name):
        c = span.get_span_context()
        report["spans"].append({"trace_id": f"{c.trace_id:032x}", "span_id": f"{c.span_id:016x}", "name": name})

    def log(body, severity=SeverityNumber.INFO, **attributes):
        logger.emit(LogRecord(timestamp=time.time_ns(), context=context.get_current(), severity_number=severity,
                              severity_text=severity.name, body=body, attributes=attributes))
        c = trace.get_current_span().get_span_context()
        ids = (f"{c.trace_id:032x}", f"{c.span_id:016x}") if c.is_valid else ("", "")
        report["logs"].append({"trace_id": ids[0], "span_id": ids[1], "body": body})

    orders = meter.create_counter("orders", "1", "Orders packed")
    weight = meter.create_histogram("order.weight", "kg")
    shelves = meter.create_gauge("shelves.free")
    log("worker started", shift="night", robots=3)
    with tracer.start_as_current_span("pack order", kind=trace.SpanKind.SERVER) as order:
        sent_span(order, "pack order")
        for i in range(ITEMS):
            with tracer.start_as_current_span(f"item {i}", attributes={"index": i, "fragile": i % 2 == 0, "tags": ["a", "b"]}) as item:
                sent_span(item, f"item {i}")
                item.add_event("picked", {"shelf": f"S{i}"})
                log(f"packed item {i}", SeverityNumber.WARN if i else SeverityNumber.DEBUG, weight=i * 0.25)
                orders.add(1, {"lane": i % 2})
                weight.record(i * 0.25)
    shelves.set(42)
    log("worker stopped: größe ✓ 日本")
    report["metrics"] = [{"name": "orders", "points": 2}, {"name": "order.weight", "points": 1}, {"name": "shelves.free", "points": 1}]

    for provider in (traces, logs, metrics):
        provider.shutdown()
    if failures.messages:
        sys.exit("export failed: " + "; ".join(failures.messages))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
