// steady is a service that runs on: every 50 ms it handles a request, one span and one log each, now and then a health check
// and a DEBUG log too, until it is told to stop. It uses the SDK as it is, by the standard OTEL_EXPORTER_OTLP_* variables.
//
// Standard output has the id of each span and log that an exporter was told to have succeeded with, one a line, as
// `span ID NAME` and `log BODY`. Standard error has what the SDK says, with its time: `SECONDS error TEXT`.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"misaki/tests/interop/go/internal/sdk"
)

// account writes down what was acknowledged.
type account struct {
	mutex   sync.Mutex
	out     *bufio.Writer
	slowest time.Duration
}

func (a *account) note(begin time.Time, kind string, ids []string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.slowest = max(a.slowest, time.Since(begin))
	for _, id := range ids {
		fmt.Fprintln(a.out, kind, id)
	}
	a.out.Flush()
}

type spanExporter struct {
	sdktrace.SpanExporter
	account *account
}

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	begin := time.Now()
	var ids []string
	for _, span := range spans {
		ids = append(ids, span.SpanContext().SpanID().String()+" "+span.Name())
	}
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.account.note(begin, "span", ids)
	}
	return err
}

type logExporter struct {
	log.Exporter
	account *account
}

func (e logExporter) Export(ctx context.Context, records []log.Record) error {
	begin := time.Now()
	var ids []string
	for _, record := range records {
		ids = append(ids, record.Body().AsString())
	}
	err := e.Exporter.Export(ctx, records)
	if err == nil {
		e.account.note(begin, "log", ids)
	}
	return err
}

func now() float64 { return float64(time.Now().UnixMilli()) / 1000 }

func run(ctx context.Context, service string) error {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		fmt.Fprintf(os.Stderr, "%.3f error %q\n", now(), err)
	}))
	spans, logs, metrics, err := sdk.Exporters(ctx)
	if err != nil {
		return err
	}
	account := &account{out: bufio.NewWriter(os.Stdout)}
	identity := resource.NewSchemaless(attribute.String("service.name", service))
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spanExporter{spans, account}), sdktrace.WithResource(identity))
	records := log.NewLoggerProvider(log.WithProcessor(log.NewBatchProcessor(logExporter{logs, account})), log.WithResource(identity))
	meters := metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(metrics)), metric.WithResource(identity))
	requests, err := meters.Meter(service).Int64Counter("requests")
	if err != nil {
		return err
	}
	tracer := traces.Tracer(service)
	logger := slog.New(otelslog.NewHandler(service, otelslog.WithLoggerProvider(records)))

	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for number := 0; ctx.Err() == nil; number++ {
		path := "/orders"
		if number%4 == 3 {
			path = "/healthz"
		}
		inside, span := tracer.Start(context.Background(), "GET "+path, trace.WithAttributes(attribute.String("url.path", path)))
		if number%4 == 1 {
			logger.DebugContext(inside, fmt.Sprintf("debug-%s-%d", service, number), "url.path", path)
		}
		logger.InfoContext(inside, fmt.Sprintf("info-%s-%d", service, number), "url.path", path)
		requests.Add(inside, 1)
		span.End()
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	end := context.Background()
	for _, shutdown := range []func(context.Context) error{traces.Shutdown, records.Shutdown, meters.Shutdown} {
		if err := shutdown(end); err != nil {
			otel.Handle(err)
		}
	}
	fmt.Fprintf(os.Stderr, "%.3f slowest export: %d ms\n", now(), account.slowest.Milliseconds())
	return nil
}

func main() {
	service := flag.String("service", "steady-go", "service.name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *service); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
