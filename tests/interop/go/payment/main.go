// payment is the last service of the shop that the tests of the page look at: it charges cards and knows earlier
// purchases. It listens on 127.0.0.1:$PORT until SIGTERM.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"misaki/tests/interop/go/internal/sdk"
)

const service = "payment"

type payment struct {
	tracer  trace.Tracer
	logger  *slog.Logger
	charges metric.Int64Counter
	amounts metric.Float64Histogram
	mails   sync.WaitGroup
}

func main() {
	sdk.Run(service, func(ctx context.Context, t *sdk.Telemetry) error {
		otel.SetTracerProvider(t.Traces)
		otel.SetMeterProvider(t.Metrics)
		otel.SetTextMapPropagator(propagation.TraceContext{})
		meter := t.Metrics.Meter(service)
		charges, err1 := meter.Int64Counter("shop.charges", metric.WithUnit("{charge}"), metric.WithDescription("Cards charged, by outcome"))
		amounts, err2 := meter.Float64Histogram("shop.charge.amount", metric.WithUnit("EUR"), metric.WithDescription("What was charged"),
			metric.WithExplicitBucketBoundaries(10, 20, 50, 100))
		listener, err3 := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		logger := slog.New(otelslog.NewHandler(service, otelslog.WithLoggerProvider(t.Logs)))
		return serve(ctx, listener, &payment{tracer: t.Traces.Tracer(service), logger: logger, charges: charges, amounts: amounts})
	})
}

func serve(ctx context.Context, listener net.Listener, p *payment) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charge", p.charge)
	mux.HandleFunc("GET /purchases", p.purchases)
	server := &http.Server{Handler: otelhttp.NewHandler(mux, "request"), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	err := server.Shutdown(context.Background())
	p.mails.Wait()
	return err
}

// charge asks the bank, which declines an expired card, and mails the receipt after it has answered.
func (p *payment) charge(answer http.ResponseWriter, request *http.Request) {
	ctx, card := request.Context(), request.URL.Query().Get("card")
	outcome := "accepted"
	err := p.authorize(ctx, card)
	if err != nil {
		outcome = "declined"
	}
	p.charges.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
	if err != nil {
		p.logger.ErrorContext(ctx, "Payment declined", "card", card, "error", err.Error())
		http.Error(answer, err.Error(), http.StatusPaymentRequired)
		return
	}
	p.amounts.Record(ctx, 59.90)
	p.logger.InfoContext(ctx, "Card charged", "amount", 59.90, "currency", "EUR")
	p.mails.Go(func() { p.mail(context.WithoutCancel(ctx)) })
	answer.WriteHeader(http.StatusNoContent)
}

func (p *payment) authorize(ctx context.Context, card string) error {
	_, span := p.tracer.Start(ctx, "authorize card", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("peer.service", "bank"), attribute.String("card.kind", card)))
	defer span.End()
	time.Sleep(20 * time.Millisecond)
	if card != "expired" {
		span.AddEvent("authorized", trace.WithAttributes(attribute.Bool("secure", true)))
		return nil
	}
	err := errors.New("card expired in 09/24")
	span.RecordError(err)
	span.SetStatus(codes.Error, err.Error())
	return err
}

func (p *payment) mail(ctx context.Context) {
	ctx, span := p.tracer.Start(ctx, "mail receipt")
	defer span.End()
	time.Sleep(10 * time.Millisecond)
	_, smtp := p.tracer.Start(ctx, "SMTP send", trace.WithSpanKind(trace.SpanKindClient))
	defer smtp.End()
	time.Sleep(100 * time.Millisecond)
	p.logger.InfoContext(ctx, "Receipt mailed")
}

// purchases is slow, because its query is.
func (p *payment) purchases(answer http.ResponseWriter, request *http.Request) {
	_, span := p.tracer.Start(request.Context(), "SELECT purchase", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("db.system.name", "postgresql"), attribute.String("db.query.text", "SELECT sku FROM purchase WHERE buyer = $1")))
	time.Sleep(400 * time.Millisecond)
	span.End()
	p.logger.WarnContext(request.Context(), "Slow query", "table", "purchase", "milliseconds", 400)
	answer.WriteHeader(http.StatusNoContent)
}
