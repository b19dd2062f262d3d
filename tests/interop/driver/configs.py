"""The collector configs of the cases, as text. The same file goes to Misaki and to the Go collector."""
import json

QUIET = "  telemetry: {metrics: {level: none}}\n"
SIGNALS = ("logs", "metrics", "traces")


def receiver(grpc, http, tls=None):
    """The otlp receiver on two ports; `tls` is (certificate file, key file)."""
    security = f", tls: {{cert_file: {tls[0]}, key_file: {tls[1]}}}" if tls else ""
    return f"""receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"{security}}}
      http: {{endpoint: "127.0.0.1:{http}"{security}}}
"""


def debug(verbosity="detailed"):
    """A debug exporter a signal, each into a file of its own in the working directory, without sampling."""
    return "".join(f"  debug/{s}: {{verbosity: {verbosity}, use_internal_logger: false, output_paths: [{s}.txt], "
                   f"sampling_initial: 1000000}}\n" for s in SIGNALS)


def pipelines(exporters, processors=""):
    """One pipeline a signal; `SIGNAL` in `exporters` stands for its name."""
    return "service:\n" + QUIET + "  pipelines:\n" + "".join(
        f"    {s}: {{receivers: [otlp], processors: [{processors}], exporters: [{exporters.replace('SIGNAL', s)}]}}\n" for s in SIGNALS)


def printing(grpc, http, tls=None, verbosity="detailed"):
    """Receives everything and prints it."""
    return receiver(grpc, http, tls) + "exporters:\n" + debug(verbosity) + pipelines("debug/SIGNAL")


def for_pages(grpc, http, origin):
    """Prints what pages of one origin send, too; they may set a header of their own."""
    cors = f"cors: {{allowed_origins: [\"{origin}\"], allowed_headers: [content-type, x-site]}}"
    return receiver(grpc, http).replace(f"{http}\"", f"{http}\", {cors}") + "exporters:\n" + debug() + pipelines("debug/SIGNAL")


def exporter(transport, port, ca_file=None, more=""):
    """The exporter that forwards over `grpc` or `http`."""
    security = f"{{ca_file: {ca_file}}}" if ca_file else "{insecure: true}"
    endpoint = f"{'https' if ca_file else 'http'}://127.0.0.1:{port}" if transport == "http" else f"127.0.0.1:{port}"
    return f"  otlp_{transport}: {{endpoint: \"{endpoint}\", tls: {security}{more}}}\n"


def forwarding(grpc, http, transport, upstream, tls=None, ca_file=None, more=""):
    """Receives everything and forwards it over `transport`."""
    return receiver(grpc, http, tls) + "exporters:\n" + exporter(transport, upstream, ca_file, more) + pipelines(f"otlp_{transport}")


TERMINAL = receiver(4317, 4318) + """exporters:
  debug: {verbosity: detailed, use_internal_logger: false}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
    traces: {receivers: [otlp], exporters: [debug]}
"""


def exposing(grpc, http, exposed):
    """Metrics are shown to Prometheus."""
    exporter = f"exporters:\n  prometheus: {{endpoint: \"127.0.0.1:{exposed}\", enable_open_metrics: true}}\n"
    return receiver(grpc, http) + exporter + "service:\n" + QUIET + "  pipelines: {metrics: {receivers: [otlp], exporters: [prometheus]}}\n"


def scraping(**targets):
    """Debian's Prometheus, which keeps the labels that it finds and says of each series which collector showed it."""
    jobs = [{"job_name": name, "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"collector": name}}]} for name, port in targets.items()]
    return json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs})


def trace_context(grpc, http, processor):
    """Prints everything; logs go through `processor` first, where one is given."""
    return (receiver(grpc, http) + (f"processors:\n  {processor}:\n" if processor else "") + "exporters:\n" + debug() + "service:\n" + QUIET
            + f"  pipelines:\n    logs: {{receivers: [otlp], processors: [{processor}], exporters: [debug/logs]}}\n"
            + "".join(f"    {s}: {{receivers: [otlp], exporters: [debug/{s}]}}\n" for s in ("metrics", "traces")))


# What a team runs today, as they wrote it: every port from the environment.
TEAM = """# edge collector of the shop team
extensions:
  health_check:
    endpoint: 127.0.0.1:${env:HEALTH_PORT}

receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:${env:GRPC_PORT}
        max_recv_msg_size_mib: 16
      http:
        endpoint: 127.0.0.1:${env:HTTP_PORT}
        cors:
          allowed_origins: ["http://*.example.com"]

processors:
  memory_limiter:
    check_interval: 1s
    limit_percentage: 75
    spike_limit_percentage: 20
  resource:
    attributes:
      - key: site
        value: tokyo-1
        action: upsert
      - key: process.pid
        action: delete
  filter:
    error_mode: ignore
    logs:
      log_record:
        - 'severity_number < SEVERITY_NUMBER_INFO and IsMatch(body, "^debug")'
    traces:
      span:
        - 'attributes["url.path"] == "/healthz"'
  transform:
    error_mode: ignore
    log_statements:
      - context: log
        statements:
          - set(attributes["length"], Len(body.string)) where IsString(body)
          - replace_pattern(body, "^record ([0-9]+)", "record no. $$1")
    trace_statements:
      - set(span.attributes["peer"], Concat(["from", resource.attributes["service.name"]], " "))
      - truncate_all(span.attributes, 64)
    metric_statements:
      - set(metric.description, "") where metric.type == METRIC_DATA_TYPE_GAUGE
  batch:
    send_batch_size: 60
    send_batch_max_size: 1000
    timeout: 1m

exporters:
  otlp/management:
    endpoint: 127.0.0.1:${env:UPSTREAM_PORT}
    compression: gzip
    tls:
      insecure: true
    retry_on_failure:
      enabled: true
      initial_interval: 1s
      max_interval: 10s
      max_elapsed_time: 5m
    sending_queue:
      enabled: true
      num_consumers: 1
      queue_size: 500
  debug:
    verbosity: detailed
    use_internal_logger: false
    output_paths: [debug.txt]

service:
  extensions: [health_check]
  telemetry:
    logs:
      level: info
    metrics:
      readers:
        - pull:
            exporter:
              prometheus:
                host: 127.0.0.1
                port: ${env:METRICS_PORT}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, resource, filter, transform, batch]
      exporters: [otlp/management, debug]
    metrics:
      receivers: [otlp]
      processors: [memory_limiter, resource, filter, transform, batch]
      exporters: [otlp/management, debug]
    logs:
      receivers: [otlp]
      processors: [memory_limiter, resource, filter, transform, batch]
      exporters: [otlp/management, debug]
"""
