// health-reporter reports a device's health once: one span, four log lines through the slog bridge.
//
// With -slog-without-context it logs as many services do: the trace id is an attribute, the context is not passed on.
package main

import (
	"context"
	"flag"
	"log/slog"

	"go.opentelemetry.io/contrib/bridges/otelslog"

	"misaki/tests/interop/go/internal/sdk"
)

const service = "health-reporter"

func main() {
	withoutContext := flag.Bool("slog-without-context", false, "log the trace id as an attribute only")
	flag.Parse()
	sdk.Run(service, func(ctx context.Context, t *sdk.Telemetry) error { return report(ctx, t, *withoutContext) })
}

func report(ctx context.Context, t *sdk.Telemetry, withoutContext bool) error {
	ctx, span := t.Traces.Tracer(service).Start(ctx, "health-reporter-worker")
	defer span.End()
	t.SentSpan("health-reporter-worker", span.SpanContext())

	logger := slog.New(otelslog.NewHandler(service, otelslog.WithLoggerProvider(t.Logs)))
	traceID := span.SpanContext().TraceID().String()
	info := func(message string, attributes ...any) {
		all := append([]any{"service", service, "environment", "development", "trace_id", traceID}, attributes...)
		if withoutContext {
			logger.Info(message, all...)
			t.SentLog(context.Background(), message)
			return
		}
		logger.InfoContext(ctx, message, all...)
		t.SentLog(ctx, message)
	}
	info("Starting health reporter...")
	info("Connected to service", "addr", "service:9000")
	info("Health report sent successfully", "device_id", "edge-device-17", "ip", "192.168.10.42")
	info("Health reporter completed")
	return nil
}
