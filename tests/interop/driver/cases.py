"""The cases: each starts collectors, lets a real peer speak to them, and checks exact facts of what came out."""
import json, os, re, subprocess, sys, urllib.parse, urllib.request
from collections import Counter

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ottl"))
import configs
from differ import differential
from collectors import SIGNALS, Client, Failure, Skip, await_true, check, free_ports, listens
from detailed import SUMMARY, Received, arrived, check_equal_text, check_report
from payloads import Payloads, numbered_logs
from programs import WORK, run_quietly, send

FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))), "fixtures")
SYSTEM_CONFIGS = ["/etc/misaki/config.yaml", "/etc/otelcol-contrib/config.yaml", "/etc/otelcol/config.yaml", "/etc/config.yaml"]
RANDOM_SEED, RANDOM_COUNT, BULK_REQUESTS, BULK_RECORDS = 20261122, 200, 50, 1000
BATCH = 60  # send_batch_size of the team's config; every signal's request divides it


def terminal(bench):
    """S1: no config, default ports; the terminal shows what health-reporter did, with its ids."""
    present = [p for p in SYSTEM_CONFIGS if os.path.exists(p)]
    if bench.kind == "misaki" and present:
        raise Skip(f"{present[0]} exists, so this machine has a config")
    await_true(lambda: not listens(4317) and not listens(4318), "port 4317 or 4318 is taken by somebody else")
    for protocol, port in (("grpc", 4317), ("http/protobuf", 4318)):
        config = configs.TERMINAL if bench.kind == "go" else None
        collector = bench.under_test(config, [4317, 4318], f"terminal-{port}", terminal=True)
        report = send("health-reporter", protocol, port)
        ids = report["spans"][0]
        last = ["Health reporter completed", "health-reporter-worker"]
        await_true(lambda: all(words in collector.screen_text() for words in last), "the terminal does not show the last log and the span")
        collector.stop()
        text = collector.screen_text()
        more = {"Connected to service": ["     -> addr: Str(service:9000)"],
                "Health report sent successfully": ["     -> device_id: Str(edge-device-17)", "     -> ip: Str(192.168.10.42)"]}
        for number, log in enumerate(report["logs"]):
            block = "\n".join([f"Body: Str({log['body']})", "Attributes:", "     -> service: Str(health-reporter)", "     -> environment: Str(development)",
                               f"     -> trace_id: Str({ids['trace_id']})", *more.get(log["body"], []), f"Trace ID: {ids['trace_id']}", f"Span ID: {ids['span_id']}", "Flags: 1"])
            start = text.find(f"LogRecord #{number}\n")
            check(start >= 0, f"no «LogRecord #{number}» on the terminal:\n{text[-3000:]}")
            check(block in text[start:start + 1500], f"{protocol}: after «LogRecord #{number}» wanted\n{block}\ngot\n{text[start:start + 700]}")
        check_report(report, Received(text))


def slog_without_context(bench):
    """S2: logs whose trace id is only an attribute land on their trace with `trace_context`, and the source is named once."""
    grpc, http = free_ports(2)
    processor = "trace_context" if bench.kind == "misaki" else ""
    collector = bench.under_test(configs.trace_context(grpc, http, processor), [grpc, http])
    report = send("slog-without-context", "grpc", grpc)
    trace_id = report["spans"][0]["trace_id"]
    await_true(lambda: collector.read("logs.txt").count("LogRecord #") == 4 and "Span #0" in collector.read("traces.txt"), "not everything was printed")
    collector.stop()
    for log in report["logs"]:
        log["trace_id"] = trace_id if processor else ""
    check_report(report, Received(*collector.texts().values()))
    check(collector.read("logs.txt").count(f"     -> trace_id: Str({trace_id})\n") == 4, "the attribute trace_id did not stay on all four logs")
    if processor:
        advice = [line for line in collector.read("stderr").splitlines() if "InfoContext" in line]
        check(len(advice) == 1 and "health-reporter" in advice[0], f"wanted one line that names health-reporter and InfoContext, got {advice}")


def certificates(folder, names="IP:127.0.0.1,DNS:localhost"):
    """A certificate authority and a certificate for `names`, made by openssl. Returns (ca file, (certificate file, key file))."""
    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
        check(done.returncode == 0, f"openssl {arguments[0]}: {done.stderr[-500:]}")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    with open(f"{folder}/server.ext", "w") as f:
        f.write(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=interop ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "server.ext", "-out", "server.pem")
    return f"{folder}/ca.pem", (f"{folder}/server.pem", f"{folder}/server.key")


def record(bench, program):
    """The exact requests that `program` sends over HTTP, and its report."""
    recorder = bench.recorder()
    report = send(program, "http/protobuf", recorder.port)
    check(len(recorder.requests) == 3, f"{program} sent {len(recorder.requests)} requests, wanted one a signal")
    return recorder.requests, report


def three_pillars(transport, secure, compression="none"):
    """S5: the shop's three signals reach a Go collector behind the one under test, item for item and letter for letter."""
    def case(bench):
        ca_file, tls = certificates(bench.folder) if secure else (None, None)
        behind_ports, alone_ports, (grpc, http) = free_ports(2), free_ports(2), free_ports(2)
        behind = bench.go_collector(configs.printing(*behind_ports, tls), behind_ports, "go-behind")
        alone = bench.go_collector(configs.printing(*alone_ports), alone_ports, "go-alone")
        upstream = behind_ports[0] if transport == "grpc" else behind_ports[1]
        collector = bench.under_test(configs.forwarding(grpc, http, transport, upstream, tls, ca_file), [grpc, http])

        protocol, port = ("grpc", grpc) if transport == "grpc" else ("http/protobuf", http)
        report = send("three-pillars", protocol, port, ca_file, compression)
        check(arrived(report) == 5 + 3 + 6, f"the program sent {arrived(report)} items")
        await_true(lambda: arrived_items(behind) == arrived(report), lambda: f"{arrived_items(behind)} of {arrived(report)} items at the Go collector")
        await_report(report, behind)
        before = behind.texts()

        requests, _ = record(bench, "three-pillars")
        for client in (Client(http, ca_file), Client(alone_ports[1])):
            for request in requests:
                client.must(*request)
        wanted = alone.texts()
        await_true(lambda: arrived_items(behind) == 2 * arrived(report), "the recorded requests did not arrive")
        for running in (collector, behind, alone):
            running.stop()
        for signal in SIGNALS:
            check_equal_text(f"{signal} at the Go collector behind", wanted[signal], behind.texts()[signal][len(before[signal]):])
    return case


def await_report(report, collector):
    """Waits for all that the report names: the Go collector writes a dump's summary and its text one after the other."""
    def complete():
        try:
            check_report(report, Received(*collector.texts().values()))
            return True
        except Failure as failure:
            complete.failure = failure
            return False
    await_true(complete, lambda: str(complete.failure))


def arrived_items(collector):
    """How many spans, log records and data points its debug files name in their summaries."""
    found = (SUMMARY.match(line) for text in collector.texts().values() for line in text.splitlines())
    counts = [json.loads(match[1]) for match in found if match]
    return sum(c.get("spans", 0) + c.get("log records", 0) + c.get("data points", 0) for c in counts)


def existing_config(bench):
    """S6: a team's config, unchanged, gives the same text, the same counters and the same health; an unknown key is refused by name and place."""
    requests, report = record(bench, "three-pillars")
    items = {"/v1/logs": len(report["logs"]), "/v1/traces": len(report["spans"]), "/v1/metrics": sum(m["points"] for m in report["metrics"])}
    # Each batch is filled exactly, by many requests: what a timer would cut differs from run to run.
    batches = [[request] * (BATCH // items[request[0]]) for request in requests]
    batches.append([("/v1/logs", "application/json", json.dumps(numbered_logs(10 * i, 10)).encode()) for i in range(BATCH // 10)])
    runs = {name: run_team_config(bench, start, name, batches)
            for name, start in (("reference", bench.go_collector), ("under-test", bench.under_test))}
    wanted, got = runs["reference"], runs["under-test"]
    check_equal_text("debug", wanted["debug"], got["debug"])
    for signal in SIGNALS:
        check_equal_text(f"{signal} upstream", wanted["upstream"][signal], got["upstream"][signal])
    check(wanted["health"] == got["health"], f"health_check: wanted {wanted['health']}, got {got['health']}")
    check(wanted["counters"] == got["counters"], f"counters: missing or different {dict(wanted['counters'].items() - got['counters'].items())}, got {dict(got['counters'].items() - wanted['counters'].items())}")

    mistaken = configs.TEAM.replace("    send_batch_max_size: 1000\n", "    send_batch_maximum: 1000\n")
    line = mistaken.split("\n").index("    send_batch_maximum: 1000") + 1
    code, complaint = bench.refusal(mistaken, env=team_environment(free_ports(6))[0])
    check(code == (1 if bench.kind == "go" else 78), f"an unknown key ended it with {code}: {complaint}")
    check("send_batch_maximum" in complaint, f"the refusal does not name the key: {complaint}")
    if bench.kind == "misaki":
        check(f"config.yaml:{line}:5" in complaint, f"the refusal does not name config.yaml:{line}:5: {complaint}")


def team_environment(ports):
    names = ("GRPC_PORT", "HTTP_PORT", "HEALTH_PORT", "METRICS_PORT", "UPSTREAM_PORT", "UPSTREAM_HTTP_PORT")
    return dict(zip(names, map(str, ports))), ports


def run_team_config(bench, start, name, batches):
    """Posts the batches, then a few records that only the shutdown flushes. Returns everything that can be compared."""
    env, (grpc, http, health, metrics, upstream_grpc, upstream_http) = team_environment(free_ports(6))
    upstream = bench.go_collector(configs.printing(upstream_grpc, upstream_http), [upstream_grpc, upstream_http], f"{name}-upstream")
    collector = start(configs.TEAM, [grpc, http, health, metrics], name, env=env)
    client, total = Client(http), 0
    # None of these goes on.
    quiet = json.dumps(numbered_logs(0, 10)).replace('"severityNumber": 9', '"severityNumber": 5').replace('"record ', '"debug ')
    client.must("/v1/logs", "application/json", quiet.encode())
    # The signals share a debug file, into which the Go collector writes a dump in two pieces: one signal at a time, then.
    for batch in batches:
        for request in batch:
            client.must(*request)
        total += BATCH
        await_true(lambda: arrived_items(upstream) == total, lambda: f"{name}: {arrived_items(upstream)} of {total} items upstream after {batch[0][0]}")
    with urllib.request.urlopen(f"http://127.0.0.1:{health}/", timeout=5) as answer:
        state = (answer.status, json.load(answer)["status"])
    await_true(lambda: sent_items(metrics) == total, lambda: f"{name}: the counters say that {sent_items(metrics)} of {total} items were sent")
    counters = scrape(metrics)
    for i in range(5):
        client.must("/v1/logs", "application/json", json.dumps(numbered_logs(1000 + i, 1)).encode())
    collector.stop()
    upstream.stop()
    check(arrived_items(upstream) == total + 5, f"{name}: {arrived_items(upstream) - total} of 5 records came through the shutdown")
    return {"debug": collector.read("debug.txt"), "upstream": upstream.texts(), "health": state, "counters": counters}


COUNTER = re.compile(r"^(otelcol_(?:receiver_(?:accepted|refused)|exporter_(?:sent|send_failed|enqueue_failed)|processor_(?:memory_limiter_accepted|filter_logs))_\w+)\{(.*)\} (\S+)$")


def scrape(port):
    """The item counters, by name and the labels that both collectors agree on."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        found = [m for m in map(COUNTER.match, answer.read().decode().splitlines()) if m]
    labels = lambda text: tuple(sorted(re.findall(r'\b((?:receiver|transport|exporter|processor)="[^"]*")', text)))
    return Counter({(m[1], labels(m[2])): float(m[3]) for m in found if float(m[3])})


def sent_items(port):
    return sum(count for (name, labels), count in scrape(port).items() if name.startswith("otelcol_exporter_sent") and 'exporter="otlp/management"' in labels)


def go_sends(transport):
    """A Go collector with its own batches sends 50,000 logs; every one is printed here and reaches the Go collector behind, once."""
    def case(bench):
        front_ports, ports, behind_ports = free_ports(2), free_ports(2), free_ports(2)
        behind = bench.go_collector(configs.printing(*behind_ports, verbosity="normal"), behind_ports, "go-behind")
        middle = configs.receiver(*ports) + "exporters:\n" + configs.debug("normal") + configs.exporter(transport, behind_ports[transport == "http"])
        collector = bench.under_test(middle + configs.pipelines(f"debug/SIGNAL, otlp_{transport}"), ports)
        front = configs.receiver(*front_ports) + "processors:\n  batch: {send_batch_size: 3000, timeout: 100ms}\nexporters:\n" \
            + configs.exporter(transport, ports[transport == "http"]) + configs.pipelines(f"otlp_{transport}", "batch")
        sender = bench.go_collector(front, front_ports, "go-in-front")
        client = Client(front_ports[1])
        total = BULK_REQUESTS * BULK_RECORDS
        for i in range(BULK_REQUESTS):
            status, answer = client.post_json("logs", numbered_logs(i * BULK_RECORDS, BULK_RECORDS))
            check(status == 200, f"the Go collector in front answered {status}: {answer!r}")
        for receiver in (collector, behind):
            await_true(lambda: arrived_items(receiver) >= total, lambda: f"{receiver.name}: {arrived_items(receiver)} of {total} log records")
        for running in (sender, collector, behind):
            running.stop()
        for receiver in (collector, behind):
            seen = Counter(int(n) for n in re.findall(r"(?m)^record (\d+) n=\1 path=/orders/\d+$", receiver.read("logs.txt")))
            wrong = [n for n in range(total) if seen[n] != 1]
            check(not wrong and len(seen) == total, f"{receiver.name}: {len(seen)} different records of {total}, {len(wrong)} missing or twice, such as {wrong[:5]}")
            check(arrived_items(receiver) == total, f"{receiver.name}: the summaries add up to {arrived_items(receiver)}")
    return case


SCRAPED = ["monotonic cumulative sum", "delta sums are added up", "cumulative histogram", "exponential histogram of deltas", "summary", "job and instance",
           "label values are escaped", "not a number and infinities", "OpenMetrics", "scopes with the same metric", "target_info of two resources", "names"]


def scraped(bench):
    """Debian's Prometheus reads the same series, values, types and exemplars from the collector under test as from a Go collector."""
    ports, go_ports, (exposed, go_exposed, web) = free_ports(2), free_ports(2), free_ports(3)
    collector = bench.under_test(configs.exposing(*ports, exposed), [*ports, exposed])
    alone = bench.go_collector(configs.exposing(*go_ports, go_exposed), [*go_ports, go_exposed], "go-alone")
    requests, _ = record(bench, "three-pillars")
    with open(f"{FIXTURES}/prometheus/cases.jsonl", encoding="utf-8") as file:
        recorded = [case for case in map(json.loads, file) if case["case"] in SCRAPED]
    check(len(recorded) == len(SCRAPED), f"only {len(recorded)} of the cases are recorded")
    for client in (Client(ports[1]), Client(go_ports[1])):
        client.must(*next(request for request in requests if request[0] == "/v1/metrics"))
        for step in (step for case in recorded for step in case["steps"] if "send" in step):
            check(client.post_json("metrics", step["send"])[0] == 200, f"{step['send']} is refused")
    prometheus = bench.prometheus(configs.scraping(misaki=exposed, go=go_exposed), web)

    def ask(path, **query):
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
            return json.load(answer)["data"]

    of_targets = {("collector", "misaki"), ("collector", "go"), ("job", "misaki"), ("job", "go")}
    of_targets |= {("instance", f"127.0.0.1:{port}") for port in (exposed, go_exposed)}

    def plain(labels):
        return tuple(sorted(pair for pair in labels.items() if pair not in of_targets))

    def up():
        try:
            found = ask("query", query='up{instance=~"127.0.0.1:.+"}')["result"]
        except OSError:
            return False  # it reads its log first
        return [series["value"][1] for series in found] == ["1", "1"]
    await_true(up, lambda: f"not both are scraped: {ask('targets')['activeTargets']}")
    seen = {}
    for name in ("misaki", "go"):
        series = ask("query", query=f'{{collector="{name}",__name__!="scrape_duration_seconds"}}')["result"]
        types = ask("targets/metadata", match_target=f'{{collector="{name}"}}')
        exemplars = ask("query_exemplars", query=f'{{collector="{name}"}}', start=1600000000, end=2000000000)
        seen[name] = ({(plain(one["metric"]), one["value"][1]) for one in series}, {(one["metric"], one["type"], one["help"]) for one in types},
                      {(plain(one["seriesLabels"]), json.dumps(one["exemplars"], sort_keys=True)) for one in exemplars})
    for what, ours, theirs, least in zip(("series", "types", "exemplars"), seen["misaki"], seen["go"], (60, 20, 4)):
        check(ours == theirs and len(ours) >= least, f"{len(ours)} {what}, wanted {len(theirs)}: more {sorted(ours - theirs)[:5]}, fewer {sorted(theirs - ours)[:5]}")
    for running in (prometheus, collector, alone):
        running.stop()


def sdk(program, *ways):
    """A real SDK sends all three signals, each way (protocol, compression); the debug files have each item once."""
    def case(bench):
        for number, (protocol, compression) in enumerate(ways):
            grpc, http = free_ports(2)
            collector = bench.under_test(configs.printing(grpc, http), [grpc, http], f"under-test-{number}")
            report = send(program, protocol, grpc if protocol == "grpc" else http, compression=compression)
            await_true(lambda: arrived_items(collector) >= arrived(report), lambda: f"{protocol}: {arrived_items(collector)} of {arrived(report)} items")
            collector.stop()
            try:
                check_report(report, Received(*collector.texts().values()))
            except Failure as failure:
                raise Failure(f"{protocol}, compression {compression}: {failure}") from None
    return case


def browser(bench):
    """A page in Chromium sends its spans to another origin, in both encodings; a page from an origin that is not allowed sends none."""
    with open(f"{WORK}/browser/page.bundle.js", "rb") as f:
        script = f.read()
    known, stranger = bench.site(script), bench.site(script)
    grpc, http = free_ports(2)
    collector = bench.under_test(configs.for_pages(grpc, http, known.origin), [grpc, http])

    def title(site, encoding):
        """Opens the page; what its title says once both exports have ended."""
        page = f"{site.origin}/?to=http://127.0.0.1:{http}/v1/traces&as={encoding}"
        dom = run_quietly(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                           "--no-proxy-server", f"--user-data-dir={bench.folder}/profile", "--virtual-time-budget=10000", "--dump-dom", page], bench.folder, 60)
        return re.search(r"<title>(.*?)</title>", dom)[1]
    for number, encoding in enumerate(("http", "proto"), 1):
        sent, refused = title(known, encoding), title(stranger, encoding)
        check(sent == "sent sent", f"{encoding}: what became of the page's exports: {sent}")
        await_true(lambda: arrived_items(collector) == 2 * number, lambda: f"{encoding}: {arrived_items(collector)} of {2 * number} spans")
        check(refused == "failed failed", f"{encoding}: a page of an origin that is not allowed: {refused}")
    collector.stop()
    text = collector.read("traces.txt")
    found = Counter(re.findall(r"(?m)^    Name +: (.+)$", text))
    check(found == {"click buy": 2, "POST /purchase": 2}, f"spans: {found}")
    check(text.count("service.name: Str(shop-page)") == 4, "the spans are not the page's")


def random_debug(bench):
    """Random payloads with odd values, as OTLP/JSON: both collectors give the same answer and print the same text."""
    ports, reference_ports = free_ports(2), free_ports(2)
    collector = bench.under_test(configs.printing(*ports), ports)
    reference = bench.go_collector(configs.printing(*reference_ports), reference_ports, "go-alone")
    compare_random(bench, collector, reference, Client(ports[1]), Client(reference_ports[1]), (collector, reference))


def random_forward(bench):
    """The same random payloads reach a Go collector behind, over protobuf, as if they had been posted to it."""
    ports, behind_ports, alone_ports = free_ports(2), free_ports(2), free_ports(2)
    behind = bench.go_collector(configs.printing(*behind_ports), behind_ports, "go-behind")
    alone = bench.go_collector(configs.printing(*alone_ports), alone_ports, "go-alone")
    one_at_a_time = ", sending_queue: {num_consumers: 1}"
    collector = bench.under_test(configs.forwarding(*ports, "grpc", behind_ports[0], more=one_at_a_time), ports)
    compare_random(bench, behind, alone, Client(ports[1]), Client(alone_ports[1]), (collector, behind, alone))


class Tail:
    """What a collector's debug file has gained since it was last looked at."""

    def __init__(self, collector):
        self.collector, self.read = collector, Counter()

    def new(self, signal, wanted):
        """Returns the new text, as soon as it is `wanted`, else when two seconds have not made it so."""
        text = lambda: self.collector.read(f"{signal}.txt")[self.read[signal]:]
        try:
            await_true(lambda: text() == wanted, "", 2)
        except Failure:
            pass
        new = text()
        self.read[signal] += len(new)
        return new


def compare_random(bench, printer, reference, client, reference_client, running):
    """Posts each payload to both and names those whose answer or text differs."""
    faults, printed, reference_printed = [], Tail(printer), Counter()
    for number in range(RANDOM_COUNT):
        signal, payload = Payloads(RANDOM_SEED, number).make()
        wanted_status, wanted_answer = reference_client.post_json(signal, payload)
        status, answer = client.post_json(signal, payload)
        wanted = reference.read(f"{signal}.txt")[reference_printed[signal]:]
        reference_printed[signal] += len(wanted)
        try:
            check(status == wanted_status, f"status {status} {answer[:200]!r}, wanted {wanted_status} {wanted_answer[:200]!r}")
            check_equal_text(signal, wanted, printed.new(signal, wanted))
        except Failure as failure:
            path = f"{bench.folder}/payload-{number}.{signal}.json"
            with open(path, "w") as f:
                json.dump(payload, f, ensure_ascii=False)
            faults.append(f"{path}: {failure}")
        if len(faults) == 5:
            break
    for one in running:
        one.stop()
    check(not faults, f"{len(faults)} payloads differ{' (stopped at the fifth)' if len(faults) == 5 else ''}\n  " + "\n  ".join(faults))


CASES = {
    "s1": (terminal, ["go"]),
    "s2": (slog_without_context, ["go"]),
    "s5-grpc": (three_pillars("grpc", secure=False), ["collector", "go"]),
    "s5-http": (three_pillars("http", secure=False, compression="gzip"), ["collector", "go"]),
    "s5-grpc-tls": (three_pillars("grpc", secure=True, compression="gzip"), ["collector", "go"]),
    "s5-http-tls": (three_pillars("http", secure=True), ["collector", "go"]),
    "s6": (existing_config, ["collector", "go"]),
    "go-sends-grpc": (go_sends("grpc"), ["collector"]),
    "go-sends-http": (go_sends("http"), ["collector"]),
    "scraped": (scraped, ["collector", "go", "prometheus"]),
    "sdk-python": (sdk("python", ("grpc", "none"), ("http/protobuf", "gzip")), ["python"]),
    "sdk-js": (sdk("js", ("grpc", "gzip"), ("http/protobuf", "none"), ("http/json", "gzip")), ["js"]),
    "sdk-browser": (browser, ["browser"]),
    "sdk-java": (sdk("java", ("grpc", "gzip"), ("http/protobuf", "none")), ["java"]),
    "random-debug": (random_debug, ["collector"]),
    "random-forward": (random_forward, ["collector"]),
    "random-ottl": (differential, ["collector"]),
}
