"""Reads the debug exporter's detailed text back into facts that can be counted."""
import re
from collections import Counter
from itertools import zip_longest

from collectors import Failure, check

SUMMARY = re.compile(r'^(?:Logs|Metrics|Traces)\t(\{.*\})$')
POINT = re.compile(r"^(?:Number|Histogram|ExponentialHistogram|Summary)DataPoints #\d+$")


class Received:
    """Spans and logs as a multiset of (trace id, span id, name or body), metrics as name -> data points."""

    def __init__(self, *texts):
        self.spans, self.logs, self.metrics, self.services = Counter(), Counter(), Counter(), set()
        for text in texts:
            self._read(text)

    def _read(self, text):
        kind, record = None, {}

        def close():
            if kind == "span":
                self.spans[record["Trace ID"], record["ID"], record["Name"]] += 1
            elif kind == "log":
                self.logs[record["Trace ID"], record["Span ID"], record["Body"].removeprefix("Str(").removesuffix(")")] += 1

        for line in text.split("\n"):
            if re.match(r"(?:Span|LogRecord|Metric) #\d+$", line) or SUMMARY.match(line):
                close()
                kind, record = {"S": "span", "L": "log", "M": "metric"}[line[0]] if " #" in line[:12] else None, {}
            elif POINT.match(line):
                self.metrics[record["Name"]] += 1
            elif line.startswith("     -> service.name: Str("):
                self.services.add(line[len("     -> service.name: Str("):-1])
            elif kind and (field := re.match(r"^(?:    |     -> )?([A-Z][A-Za-z ]*?) *: ?(.*)$", line)):
                record.setdefault(field[1], field[2])
        close()


def check_report(report, received, copies=1):
    """Everything the program says it sent is there, exactly `copies` times, and nothing else is."""
    def compare(what, sent, got):
        sent = Counter({k: n * copies for k, n in sent.items()})
        if sent != got:
            raise Failure(f"{what}: missing {dict(sent - got)}, not sent {dict(got - sent)}")
    compare("spans", Counter((s["trace_id"], s["span_id"], s["name"]) for s in report["spans"]), received.spans)
    compare("logs", Counter((r["trace_id"], r["span_id"], r["body"]) for r in report["logs"]), received.logs)
    compare("metrics", Counter({m["name"]: m["points"] for m in report["metrics"]}), received.metrics)
    check(received.services == {report["service"]}, f"service.name: wanted {report['service']}, got {received.services}")


def arrived(report):
    """How many items of all signals the report names."""
    return len(report["spans"]) + len(report["logs"]) + sum(m["points"] for m in report["metrics"])


def check_equal_text(what, wanted, got):
    """Names the first line that differs, with the lines around it."""
    if wanted == got:
        return
    a, b = wanted.split("\n"), got.split("\n")
    at = next(i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y)
    near = "\n".join(f"      {line}" for line in a[max(0, at - 3):at])
    show = lambda lines: repr(lines[at]) if at < len(lines) else "(the end)"
    raise Failure(f"{what}: line {at + 1} differs (of {len(a)} wanted, {len(b)} got)\n{near}\n    - {show(a)}\n    + {show(b)}")
