"""The middle service of the shop that the tests of the page look at: a WSGI application that calls payment with requests, both
instrumented. It listens on 127.0.0.1:$PORT until SIGTERM; PAYMENT_URL says where payment is."""
import logging, os, signal, socketserver, sys, threading, time
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import requests
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sender import exporter

SERVICE = "cart"


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


class Cart:
    def __init__(self, payment):
        self.payment, self.log, self.tracer = payment, logging.getLogger(SERVICE), trace.get_tracer(SERVICE)
        meter = metrics.get_meter(SERVICE)
        self.checkouts = meter.create_counter("shop.checkouts", "{checkout}", "Carts that went to the payment")
        self.items = meter.create_histogram("shop.cart.items", "{item}", "Items in a cart when it was read", explicit_bucket_boundaries_advisory=[1, 2, 5, 10])
        self.open = meter.create_gauge("shop.carts.open", "{cart}", "Carts that are not paid yet")
        self.reads = 0

    def __call__(self, environ, start_response):
        routes = {"/items": self.read, "/checkout": self.checkout, "/recommendations": self.recommend}
        status = routes[environ["PATH_INFO"]](environ) if environ["PATH_INFO"] in routes else "404 Not Found"
        start_response(status, [("Content-Type", "text/plain")])
        return [f"{status}\n".encode()]

    def read(self, _):
        with self.tracer.start_as_current_span("read cart", attributes={"cart.id": "c-17", "cart.skus": ["a-1", "b-2", "c-3"]}):
            time.sleep(0.005)
            self.reads += 1
            self.items.record(self.reads % 7)
            self.open.set(self.reads % 5)
        self.log.info("cart read", extra={"cart.id": "c-17"})
        return "200 OK"

    def checkout(self, environ):
        self.checkouts.add(1)
        answer = requests.post(f"{self.payment}/charge?{environ['QUERY_STRING']}", timeout=5)
        if not answer.ok:
            self.log.error("checkout failed: payment answered %d", answer.status_code, extra={"reason": answer.text.strip()})
            return "502 Bad Gateway"
        self.log.info("checked out")
        return "200 OK"

    def recommend(self, _):
        requests.get(f"{self.payment}/purchases", timeout=5)
        return "200 OK"


def main():
    resource = Resource.create({"service.name": SERVICE, "service.version": "3.2.0"})
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(exporter("trace", "OTLPSpanExporter")))
    trace.set_tracer_provider(traces)
    logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(exporter("_log", "OTLPLogExporter")))
    meters = MeterProvider([PeriodicExportingMetricReader(exporter("metric", "OTLPMetricExporter"))], resource, shutdown_on_exit=False)
    metrics.set_meter_provider(meters)
    RequestsInstrumentor().instrument()
    cart = Cart(os.environ["PAYMENT_URL"])
    cart.log.setLevel(logging.INFO)
    cart.log.addHandler(LoggingHandler(logger_provider=logs))
    server = make_server("127.0.0.1", int(os.environ["PORT"]), OpenTelemetryMiddleware(cart), Server, Quiet)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    for provider in (traces, logs, meters):
        provider.shutdown()


if __name__ == "__main__":
    sys.exit(main())
