// three-pillars is a shop that sends all three signals: what its host does (metrics), what happened (logs), and one
// purchase on its way through four services (a trace).
package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"misaki/tests/interop/go/internal/sdk"
)

const service = "shop"

func main() {
	sdk.Run(service, func(ctx context.Context, t *sdk.Telemetry) error {
		logins(ctx, t)
		purchase(ctx, t)
		return measure(ctx, t)
	})
}

func measure(ctx context.Context, t *sdk.Telemetry) error {
	meter := t.Metrics.Meter(service)
	cpu, err1 := meter.Float64Gauge("system.cpu.utilization", metric.WithUnit("%"))
	memory, err2 := meter.Int64Gauge("system.memory.usage", metric.WithUnit("By"))
	requests, err3 := meter.Int64Counter("http.server.requests", metric.WithUnit("{request}"))
	duration, err4 := meter.Float64Histogram("http.server.request.duration", metric.WithUnit("ms"),
		metric.WithExplicitBucketBoundaries(50, 100, 150, 200, 500))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	cpu.Record(ctx, 75)
	memory.Record(ctx, 2_100_000_000)
	for _, route := range []string{"/login", "/purchase"} {
		where := metric.WithAttributes(attribute.String("http.route", route))
		for _, milliseconds := range []float64{142.5, 150, 157.25} {
			requests.Add(ctx, 1, where)
			duration.Record(ctx, milliseconds, where)
		}
	}
	t.SentMetric("system.cpu.utilization", 1)
	t.SentMetric("system.memory.usage", 1)
	t.SentMetric("http.server.requests", 2)
	t.SentMetric("http.server.request.duration", 2)
	return nil
}

func logins(ctx context.Context, t *sdk.Telemetry) {
	logger := slog.New(otelslog.NewHandler(service, otelslog.WithLoggerProvider(t.Logs)))
	logger.InfoContext(ctx, "User logged in", "user.id", 4711, "method", "password")
	t.SentLog(ctx, "User logged in")
	logger.ErrorContext(ctx, "Database connection failed", "db.system", "postgresql", "error", "connection refused",
		slog.Group("retry", slog.Int("attempt", 3), slog.Bool("last", true)))
	t.SentLog(ctx, "Database connection failed")
}

// purchase records the spans with the times they would take, so that nobody waits for them.
func purchase(ctx context.Context, t *sdk.Telemetry) {
	begin := time.Now().Add(-300 * time.Millisecond)
	at := func(milliseconds int) trace.SpanEventOption {
		return trace.WithTimestamp(begin.Add(time.Duration(milliseconds) * time.Millisecond))
	}
	start := func(ctx context.Context, name string, kind trace.SpanKind, from int) (context.Context, trace.Span) {
		ctx, span := t.Traces.Tracer(service).Start(ctx, name, trace.WithSpanKind(kind), at(from))
		t.SentSpan(name, span.SpanContext())
		return ctx, span
	}
	logger := slog.New(otelslog.NewHandler(service, otelslog.WithLoggerProvider(t.Logs)))

	ctx, frontend := start(ctx, "POST /purchase", trace.SpanKindServer, 0)
	frontend.SetAttributes(attribute.Int("cart.items", 3), attribute.StringSlice("cart.skus", []string{"a-1", "b-2", "c-3"}))
	_, stock := start(ctx, "reserve stock", trace.SpanKindClient, 15)
	stock.AddEvent("stock reserved", at(40), trace.WithAttributes(attribute.Bool("backorder", false)))
	stock.SetStatus(codes.Ok, "")
	stock.End(at(55))
	paymentContext, payment := start(ctx, "charge card", trace.SpanKindClient, 60)
	_, external := start(paymentContext, "external payment API", trace.SpanKindClient, 70)
	external.RecordError(errors.New("gateway timeout"), at(250))
	external.SetStatus(codes.Error, "gateway timeout")
	external.End(at(250))
	logger.ErrorContext(paymentContext, "Payment failed", "amount", 59.90)
	t.SentLog(paymentContext, "Payment failed")
	payment.SetStatus(codes.Error, "payment failed")
	payment.End(at(260))
	frontend.End(at(270))

	_, receipt := t.Traces.Tracer(service).Start(context.Background(), "mail receipt", at(275),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: frontend.SpanContext()}))
	t.SentSpan("mail receipt", receipt.SpanContext())
	receipt.End(at(290))
}
