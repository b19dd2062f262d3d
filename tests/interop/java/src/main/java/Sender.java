import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.context.Scope;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.SdkMeterProviderBuilder;
import io.opentelemetry.sdk.metrics.View;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;

/**
 * Sends all three signals with the OpenTelemetry SDK for Java, configured by the standard OTEL_* variables, and prints as
 * JSON what was sent. Ends with a status other than 0 when an export failed: the exporters say so only in their log.
 */
public final class Sender {
  private static final String SERVICE = "billing-java";
  private static final List<String> FAILURES = Collections.synchronizedList(new ArrayList<>());
  private static final List<String> SPANS = new ArrayList<>();
  private static final List<String> LOGS = new ArrayList<>();

  /** Collects what the SDK logs at warning and above. */
  private static final class Failures extends Handler {
    @Override public void publish(LogRecord record) {
      if (record.getLevel().intValue() >= Level.WARNING.intValue()) FAILURES.add(record.getMessage());
    }
    @Override public void flush() {}
    @Override public void close() {}
  }

  public static void main(String[] arguments) {
    java.util.logging.Logger.getLogger("io.opentelemetry").addHandler(new Failures());
    OpenTelemetrySdk sdk = AutoConfiguredOpenTelemetrySdk.builder()
        .disableShutdownHook()
        .addPropertiesSupplier(() -> Map.of("otel.service.name", SERVICE))
        .addMeterProviderCustomizer((meters, unused) -> withoutOwnMetrics(meters))
        .build().getOpenTelemetrySdk();
    send(sdk);
    boolean stopped = sdk.shutdown().join(20, TimeUnit.SECONDS).isSuccess();
    if (!stopped || !FAILURES.isEmpty()) {
      System.err.println("export failed: " + String.join("; ", FAILURES));
      System.exit(1);
    }
    String metrics = "{\"name\":\"invoices\",\"points\":2},{\"name\":\"invoice.total\",\"points\":1},{\"name\":\"ledger.free\",\"points\":1}";
    String report = "{\"service\":\"" + SERVICE + "\",\"spans\":[" + String.join(",", SPANS) + "],\"logs\":["
        + String.join(",", LOGS) + "],\"metrics\":[" + metrics + "]}\n";
    System.out.writeBytes(report.getBytes(StandardCharsets.UTF_8));
    System.exit(0);
  }

  /** Leaves out what the SDK measures of itself, which varies from run to run. */
  private static SdkMeterProviderBuilder withoutOwnMetrics(SdkMeterProviderBuilder meters) {
    View nothing = View.builder().setAggregation(Aggregation.drop()).build();
    for (String owner : List.of("io.opentelemetry.sdk.trace", "io.opentelemetry.sdk.logs")) {
      meters.registerView(InstrumentSelector.builder().setMeterName(owner).build(), nothing);
    }
    return meters;
  }

  private static void send(OpenTelemetrySdk sdk) {
    var tracer = sdk.getTracer("interop", "1.0");
    var logger = sdk.getLogsBridge().loggerBuilder("interop").setInstrumentationVersion("1.0").build();
    var meter = sdk.meterBuilder("interop").setInstrumentationVersion("1.0").build();
    var invoices = meter.counterBuilder("invoices").setUnit("1").setDescription("Invoices written").build();
    var total = meter.histogramBuilder("invoice.total").setUnit("EUR").build();
    var free = meter.gaugeBuilder("ledger.free").build();

    log(logger, Severity.INFO, "billing started", Attributes.of(AttributeKey.longKey("workers"), 2L));
    Span invoice = tracer.spanBuilder("write invoice").setSpanKind(SpanKind.SERVER).startSpan();
    sent(invoice, "write invoice");
    try (Scope ignored = invoice.makeCurrent()) {
      for (int i = 0; i < 4; i++) {
        Span line = tracer.spanBuilder("line " + i).setAttribute("index", i).setAttribute("gift", i % 2 == 0)
            .setAttribute(AttributeKey.stringArrayKey("tags"), List.of("a", "b")).startSpan();
        sent(line, "line " + i);
        try (Scope inner = line.makeCurrent()) {
          log(logger, i == 0 ? Severity.DEBUG : Severity.WARN, "wrote line " + i, Attributes.of(AttributeKey.doubleKey("price"), i * 1.5));
          line.addEvent("priced", Attributes.of(AttributeKey.stringKey("currency"), "EUR"));
          invoices.add(1, Attributes.of(AttributeKey.longKey("lane"), (long) (i % 2)));
          total.record(i * 1.5);
        } finally {
          line.end();
        }
      }
    } finally {
      invoice.end();
    }
    free.set(42);
    log(logger, Severity.ERROR, "billing stopped: gr\u00f6\u00dfe \u2713 \u65e5\u672c", Attributes.empty());
  }

  private static void sent(Span span, String name) {
    var ids = span.getSpanContext();
    SPANS.add("{\"trace_id\":\"" + ids.getTraceId() + "\",\"span_id\":\"" + ids.getSpanId() + "\",\"name\":\"" + name + "\"}");
  }

  private static void log(Logger logger, Severity severity, String body, Attributes attributes) {
    logger.logRecordBuilder().setSeverity(severity).setSeverityText(severity.name()).setBody(body).setAllAttributes(attributes).emit();
    var ids = Span.current().getSpanContext();
    String trace = ids.isValid() ? ids.getTraceId() : "";
    String span = ids.isValid() ? ids.getSpanId() : "";
    LOGS.add("{\"trace_id\":\"" + trace + "\",\"span_id\":\"" + span + "\",\"body\":\"" + body + "\"}");
  }
}
