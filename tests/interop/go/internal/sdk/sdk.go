// Package sdk sets up the OpenTelemetry SDK the way a service does: by the standard OTEL_EXPORTER_OTLP_* variables.
// It keeps an account of what was sent, for the driver to compare with what arrived.
package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Span is one span sent: its ids in hexadecimal.
type Span struct {
	TraceID string `json:"trace_id"`
	SpanID  string `json:"span_id"`
	Name    string `json:"name"`
}

// Log is one log record sent; its ids are empty where it was logged without a context.
type Log struct {
	TraceID string `json:"trace_id"`
	SpanID  string `json:"span_id"`
	Body    string `json:"body"`
}

// Metric is one metric sent, with its number of data points.
type Metric struct {
	Name   string `json:"name"`
	Points int    `json:"points"`
}

// Report is what a program prints when it ends.
type Report struct {
	Service string   `json:"service"`
	Spans   []Span   `json:"spans"`
	Logs    []Log    `json:"logs"`
	Metrics []Metric `json:"metrics"`
}

// Telemetry holds the three providers and the account of what went through them.
type Telemetry struct {
	Traces  *sdktrace.TracerProvider
	Logs    *log.LoggerProvider
	Metrics *metric.MeterProvider
	Report  Report

	mutex    sync.Mutex
	failures []error
}

// Start sets up all three signals for one service. Export errors are kept for Finish.
func Start(ctx context.Context, service string) (*Telemetry, error) {
	t := &Telemetry{Report: Report{Service: service, Spans: []Span{}, Logs: []Log{}, Metrics: []Metric{}}}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		t.mutex.Lock()
		defer t.mutex.Unlock()
		t.failures = append(t.failures, err)
	}))
	spans, logs, metrics, err := Exporters(ctx)
	if err != nil {
		return nil, err
	}
	identity := resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.version", "1.4.2"))
	t.Traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(identity))
	t.Logs = log.NewLoggerProvider(log.WithProcessor(log.NewBatchProcessor(logs)), log.WithResource(identity))
	t.Metrics = metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(metrics)), metric.WithResource(identity))
	return t, nil
}

// Exporters picks the transport that OTEL_EXPORTER_OTLP_PROTOCOL names; everything else they read from the environment.
func Exporters(ctx context.Context) (sdktrace.SpanExporter, log.Exporter, metric.Exporter, error) {
	var spans *otlptrace.Exporter
	var logs log.Exporter
	var metrics metric.Exporter
	var failures [3]error
	switch protocol := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "grpc":
		spans, failures[0] = otlptracegrpc.New(ctx)
		logs, failures[1] = otlploggrpc.New(ctx)
		metrics, failures[2] = otlpmetricgrpc.New(ctx)
	case "", "http/protobuf":
		spans, failures[0] = otlptracehttp.New(ctx)
		logs, failures[1] = otlploghttp.New(ctx)
		metrics, failures[2] = otlpmetrichttp.New(ctx)
	default:
		return nil, nil, nil, fmt.Errorf("unknown OTEL_EXPORTER_OTLP_PROTOCOL %q", protocol)
	}
	return spans, logs, metrics, errors.Join(failures[:]...)
}

// SentSpan notes a span that was started.
func (t *Telemetry) SentSpan(name string, c trace.SpanContext) {
	t.Report.Spans = append(t.Report.Spans, Span{c.TraceID().String(), c.SpanID().String(), name})
}

// SentLog notes a log record, with the ids that its context carries.
func (t *Telemetry) SentLog(ctx context.Context, body string) {
	entry := Log{Body: body}
	if c := trace.SpanContextFromContext(ctx); c.IsValid() {
		entry.TraceID, entry.SpanID = c.TraceID().String(), c.SpanID().String()
	}
	t.Report.Logs = append(t.Report.Logs, entry)
}

// SentMetric notes a metric and its number of data points.
func (t *Telemetry) SentMetric(name string, points int) {
	t.Report.Metrics = append(t.Report.Metrics, Metric{name, points})
}

// Finish exports what is left and prints the report; its error names every export that failed.
func (t *Telemetry) Finish(ctx context.Context) error {
	stopped := errors.Join(t.Traces.Shutdown(ctx), t.Logs.Shutdown(ctx), t.Metrics.Shutdown(ctx))
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if err := errors.Join(append(t.failures, stopped)...); err != nil {
		return fmt.Errorf("export failed: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(t.Report)
}

// Run runs one program's body between Start and Finish, and ends the process with a status other than 0 if it failed.
func Run(service string, body func(context.Context, *Telemetry) error) {
	ctx := context.Background()
	t, err := Start(ctx, service)
	if err == nil {
		err = errors.Join(body(ctx, t), t.Finish(ctx))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
