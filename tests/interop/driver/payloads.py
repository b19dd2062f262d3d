"""Payloads as OTLP/JSON: random ones with odd values (the same for the same seed), and plain ones for counting.

Left out on purpose: control characters (Misaki escapes them) and malformed ids (Misaki refuses them)."""
import base64, random

STRINGS = ["", " ", "plain", "größe ✓", "日本語", "🚀 emoji 👩‍🚀", 'quo"te', "back\\slash", "<a href='x'>&amp;</a>", "tab\there", "two\nlines", "\nleading",
           "trailing\n", "{\"json\": [1, 2]}", "Str(fake)", "     -> fake: Str(x)", "LogRecord #7", "%d %s %f", "a" * 300, "e\u0301 \u00a0 \ufeff \ufffd", "null", "0"]
KEYS = ["service.name", "http.route", "k", "", "key with space", "ключ", "UPPER", "a.b.c", "a:b", "->", "z" * 80]
DOUBLES = [0, 1, -1, 0.5, -0.0, 1.5, 3.0, 0.1 + 0.2, 1e20, 1e21, -1e21, 1.5e-6, 9.99e-7, 1e-7, 1e300, 5e-324, 1.7976931348623157e308, 123456789.125, 2**53, "NaN", "Infinity", "-Infinity"]
INTEGERS = [0, 1, -1, 42, 2**31, 2**53 + 1, 2**63 - 1, -2**63, -987654321]
TIMES = [0, 1, 999_999_999, 1_000_000_000, 1_544_712_660_300_000_000, 1_700_000_000_123_456_789, 1_700_000_000_120_000_000, 2**63 - 1, 2**64 - 1]


class Payloads:
    """One random payload for each number; `seed` and number decide it."""

    def __init__(self, seed, number):
        self.r = random.Random(f"{seed}/{number}")

    def make(self):
        """Returns (signal, payload)."""
        signal = self.r.choice(["logs", "metrics", "traces"])
        resources, scopes, records, record = {"logs": ("resourceLogs", "scopeLogs", "logRecords", self.log),
                                              "metrics": ("resourceMetrics", "scopeMetrics", "metrics", self.metric),
                                              "traces": ("resourceSpans", "scopeSpans", "spans", self.span)}[signal]
        groups = self.many(lambda: {**self.maybe(0.8, resource=self.resource), **self.maybe(0.3, schemaUrl=self.string),
                                    scopes: self.many(lambda: {**self.maybe(0.7, scope=self.scope), **self.maybe(0.3, schemaUrl=self.string),
                                                               records: self.many(record, 4)}, 3)}, 3)
        return signal, {resources: groups}

    def maybe(self, chance, **fields):
        return {name: make() for name, make in fields.items() if self.r.random() < chance}

    def many(self, make, most):
        return [make() for _ in range(self.r.randint(0, most))]

    def string(self):
        return self.r.choice(STRINGS)

    def word(self):
        return f"w{self.r.randint(0, 99)}"

    def unsigned(self, numbers=(0, 1, 2, 7, 1000, 2**32, 2**63 - 1)):
        return self.number_or_text(self.r.choice(numbers))

    def number_or_text(self, value):
        return str(value) if self.r.random() < 0.5 else value

    def count32(self):
        return self.r.choice([0, 0, 1, 5, 2**32 - 1])

    def time(self):
        return self.number_or_text(self.r.choice(TIMES) if self.r.random() < 0.5 else 1_700_000_000_000_000_000 + self.r.randint(0, 10**15))

    def double(self):
        return self.r.choice(DOUBLES) if self.r.random() < 0.7 else self.r.uniform(-1e6, 1e6)

    def identity(self, size):
        chance = self.r.random()
        if chance < 0.15:
            return ""
        if chance < 0.25:
            return "00" * size
        text = self.r.randbytes(size).hex()
        return text.upper() if chance > 0.9 else text

    def value(self, depth=0):
        kinds = [lambda: {"stringValue": self.string()}, lambda: {"boolValue": self.r.random() < 0.5},
                 lambda: {"intValue": self.number_or_text(self.r.choice(INTEGERS))}, lambda: {"doubleValue": self.double()},
                 lambda: {"bytesValue": base64.b64encode(self.r.randbytes(self.r.choice([0, 1, 2, 3, 20]))).decode()}, lambda: {}]
        if depth < 3:
            kinds += [lambda: {"arrayValue": {"values": self.many(lambda: self.value(depth + 1), 4)}},
                      lambda: {"kvlistValue": {"values": self.attributes(depth + 1)}}] * 2
        return self.r.choice(kinds)()

    def attributes(self, depth=0):
        """Keys are random; equal ones occur at the top only, where each is printed."""
        keys = self.many(lambda: self.r.choice(KEYS), 4)
        return [{"key": k, "value": self.value(depth)} for k in (keys if depth == 0 else sorted(set(keys)))]

    def resource(self):
        entity = lambda: {"type": self.word(), **self.maybe(0.5, schemaUrl=self.string), "idKeys": self.many(self.word, 2), "descriptionKeys": self.many(self.word, 2)}
        return {**self.maybe(0.9, attributes=self.attributes, droppedAttributesCount=self.count32), **self.maybe(0.15, entityRefs=lambda: self.many(entity, 2))}

    def scope(self):
        return self.maybe(0.6, name=self.string, version=self.string, attributes=self.attributes, droppedAttributesCount=self.count32)

    def log(self):
        return self.maybe(0.7, timeUnixNano=self.time, observedTimeUnixNano=self.time, severityNumber=lambda: self.r.choice([*range(25), 25, 99]),
                          severityText=self.string, body=self.value, attributes=self.attributes, droppedAttributesCount=self.count32,
                          flags=lambda: self.r.choice([0, 1, 255, 2**32 - 1]), traceId=lambda: self.identity(16), spanId=lambda: self.identity(8),
                          eventName=self.string)

    def span(self):
        event = lambda: self.maybe(0.7, timeUnixNano=self.time, name=self.string, attributes=self.attributes, droppedAttributesCount=self.count32)
        link = lambda: self.maybe(0.7, traceId=lambda: self.identity(16), spanId=lambda: self.identity(8), traceState=self.string,
                                  attributes=self.attributes, droppedAttributesCount=self.count32, flags=lambda: 257)
        status = lambda: self.maybe(0.7, code=lambda: self.r.choice([0, 1, 2, 3]), message=self.string)
        return self.maybe(0.75, traceId=lambda: self.identity(16), spanId=lambda: self.identity(8), parentSpanId=lambda: self.identity(8),
                          traceState=lambda: self.r.choice(["", "a=b,c=d"]), name=self.string, kind=lambda: self.r.choice([0, 1, 2, 3, 4, 5, 9]),
                          startTimeUnixNano=self.time, endTimeUnixNano=self.time, attributes=self.attributes, droppedAttributesCount=self.count32,
                          events=lambda: self.many(event, 3), droppedEventsCount=self.count32, links=lambda: self.many(link, 2),
                          droppedLinksCount=self.count32, status=status, flags=lambda: 257)

    def metric(self):
        temporality = lambda: self.r.choice([0, 1, 2, 5])
        points = lambda make: {"dataPoints": self.many(make, 3)}
        data = [{}, {"gauge": points(self.number_point)},
                {"sum": {**points(self.number_point), **self.maybe(0.7, aggregationTemporality=temporality, isMonotonic=lambda: self.r.random() < 0.5)}},
                {"histogram": {**points(self.histogram_point), **self.maybe(0.7, aggregationTemporality=temporality)}},
                {"exponentialHistogram": {**points(self.exponential_point), **self.maybe(0.7, aggregationTemporality=temporality)}},
                {"summary": points(self.summary_point)}]
        return {**self.maybe(0.7, name=self.string, description=self.string, unit=lambda: self.r.choice(["", "By", "{x}/s"]), metadata=self.attributes), **self.r.choice(data)}

    def point(self, *more, **fields):
        return {**self.maybe(0.7, attributes=self.attributes, startTimeUnixNano=self.time, timeUnixNano=self.time, flags=lambda: self.r.choice([0, 1])), **self.maybe(0.8, **fields)}

    def number(self):
        return self.r.choice([{}, {"asInt": self.number_or_text(self.r.choice(INTEGERS))}, {"asDouble": self.double()}])

    def exemplars(self):
        return self.many(lambda: {**self.number(), **self.maybe(0.7, timeUnixNano=self.time, traceId=lambda: self.identity(16), spanId=lambda: self.identity(8), filteredAttributes=self.attributes)}, 2)

    def number_point(self):
        return {**self.point(exemplars=self.exemplars), **self.number()}

    def histogram_point(self):
        bounds = sorted(self.r.uniform(-10, 1000) for _ in range(self.r.randint(0, 4)))
        return self.point(count=self.unsigned, sum=self.double, min=self.double, max=self.double, explicitBounds=lambda: bounds,
                          bucketCounts=lambda: [self.unsigned() for _ in range(len(bounds) + 1)], exemplars=self.exemplars)

    def exponential_point(self):
        buckets = lambda: self.maybe(0.8, offset=lambda: self.r.randint(-20, 20), bucketCounts=lambda: self.many(self.unsigned, 6))
        return self.point(count=self.unsigned, sum=self.double, min=self.double, max=self.double, scale=lambda: self.r.randint(-2, 8), zeroCount=self.unsigned,
                          zeroThreshold=lambda: self.r.choice([0, 0.001]), positive=buckets, negative=buckets, exemplars=self.exemplars)

    def summary_point(self):
        unsigned_zero = lambda: self.double() or 0  # a -0 here is lost when the Go collector writes protobuf
        return self.point(count=self.unsigned, sum=unsigned_zero,
                          quantileValues=lambda: self.many(lambda: self.maybe(0.8, quantile=lambda: self.r.choice([0, 0.5, 0.99, 1]), value=unsigned_zero), 3))


def numbered_logs(first, count):
    """`count` small log records whose bodies are `record <first>`, `record <first + 1>` and so on."""
    records = [{"timeUnixNano": str(1_700_000_000_000_000_000 + n), "severityNumber": 9, "severityText": "INFO", "body": {"stringValue": f"record {n}"},
                "attributes": [{"key": "n", "value": {"intValue": str(n)}}, {"key": "path", "value": {"stringValue": f"/orders/{n % 97}"}}]}
               for n in range(first, first + count)]
    return {"resourceLogs": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "counter"}}]},
                              "scopeLogs": [{"scope": {"name": "interop"}, "logRecords": records}]}]}
