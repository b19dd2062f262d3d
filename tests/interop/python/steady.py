"""A service that runs on until SIGTERM: what ../go/steady does, with the SDK for Python and with the same two outputs."""
import itertools, logging, os, signal, sys, threading, time

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry import context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sender import exporter

lock, slowest = threading.Lock(), 0.0


class Said(logging.Handler):
    """What the SDK logs at warning and above, with its time."""

    def emit(self, record):
        print(f"{time.time():.3f} error {record.getMessage()!r}", file=sys.stderr, flush=True)


def acknowledged(inner, kind, id_of):
    """Writes down the ids of what `inner` has exported with success."""
    export = inner.export

    def noted(batch, *arguments, **more):
        global slowest
        begin = time.monotonic()
        ids = [id_of(item) for item in batch]
        result = export(batch, *arguments, **more)
        if result.name == "SUCCESS":
            with lock:
                slowest = max(slowest, time.monotonic() - begin)
                print("".join(f"{kind} {i}\n" for i in ids), end="", flush=True)
        return result
    inner.export = noted
    return inner


def main():
    service = sys.argv[1]
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    logging.getLogger().addHandler(Said(logging.WARNING))
    resource = Resource.create({"service.name": service})
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans = acknowledged(exporter("trace", "OTLPSpanExporter"), "span", lambda span: f"{span.context.span_id:016x} {span.name}")
    traces.add_span_processor(BatchSpanProcessor(spans))
    logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
    records = acknowledged(exporter("_log", "OTLPLogExporter"), "log", lambda item: item.log_record.body)
    logs.add_log_record_processor(BatchLogRecordProcessor(records))
    metrics = MeterProvider([PeriodicExportingMetricReader(exporter("metric", "OTLPMetricExporter"))], resource, shutdown_on_exit=False)
    tracer, logger, requests = traces.get_tracer(service), logs.get_logger(service), metrics.get_meter(service).create_counter("requests")

    def log(level, number, path):
        severity = SeverityNumber[level.upper()]
        logger.emit(LogRecord(timestamp=time.time_ns(), context=context.get_current(), severity_number=severity, severity_text=severity.name,
                              body=f"{level}-{service}-{number}", attributes={"url.path": path}))

    for number in itertools.count():
        path = "/healthz" if number % 4 == 3 else "/orders"
        with tracer.start_as_current_span(f"GET {path}", attributes={"url.path": path}):
            if number % 4 == 1:
                log("debug", number, path)
            log("info", number, path)
            requests.add(1)
        if stopped.wait(0.05):
            break
    for provider in (traces, logs, metrics):
        provider.shutdown()
    print(f"{time.time():.3f} slowest export: {slowest * 1000:.0f} ms", file=sys.stderr)


if __name__ == "__main__":
    main()
