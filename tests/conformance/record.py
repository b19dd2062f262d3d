#!/usr/bin/env python3
"""Writes anew what a Go collector does with the cases of these files, each line of which is one case.

  tests/conformance/record.py OTELCOL [FILE...]            default: all of fixtures/answers, fixtures/prometheus, fixtures/references, fixtures/scraped, and fixtures/taken

answers/*.jsonl      a request, and the status and the headers of its answer. A redirect is followed to where it leads
prometheus/*.jsonl   settings of the exporter, and steps: requests, waits in seconds, and scrapes with what they get
scraped/*.jsonl      settings of the receiver prometheus and pages of a target, and what comes of each scrape
references/*.jsonl   the text of a variable, and what it is in a field without a type: an attribute's value, null, or refused
taken/*.jsonl        a config, and whether `validate` takes it"""
import base64, concurrent.futures, glob, http.client, http.server, json, os, re, socket, subprocess, sys, tempfile, threading, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADERS = ("access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers", "access-control-expose-headers", "access-control-max-age", "vary")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def config_of(case, port):
    endpoint = {"endpoint": f"127.0.0.1:{port}"}
    service = {"telemetry": {"metrics": {"level": "none"}}, "pipelines": {signal: {"receivers": ["otlp"], "exporters": ["nop"]} for signal in ("logs", "metrics", "traces")}}
    config = {"receivers": {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}}, "exporters": {"nop": None}, "service": service}
    if case["server"] == "otlp":
        config["receivers"]["otlp"]["protocols"]["http"] = case["settings"] | endpoint
    else:
        config["extensions"] = {case["server"]: case["settings"] | endpoint}
        service["extensions"] = [case["server"]]
    return config


def await_ports(ports):
    for port in ports:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                time.sleep(0.02)


def ask(port, case, path=None):
    line, *headers = case["head"]
    method, target = line.split(" ", 1)
    body = base64.b64decode(case["body_base64"]) if "body_base64" in case else case.get("body", "").encode()
    head = [f"{method} {path or target} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers]
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        stream.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        text = b""
        while piece := stream.recv(65536):
            text += piece
    status, *lines = text.split(b"\r\n\r\n")[0].decode().split("\r\n")
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if status.split()[1] in ("307", "301") and path is None:
        return ask(port, case, fields["location"])
    return int(status.split()[1]), {name: fields[name] for name in HEADERS if name in fields}


def record_answers(otelcol, cases):
    for case in cases:
        port = free_port()
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(config_of(case, port), file)
            file.flush()
            process = subprocess.Popen([otelcol, "--config", file.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                await_ports([port])
                case["status"], case["headers"] = ask(port, case)
            finally:
                process.terminate()
                process.wait(20)


def scrape(port, step):
    head = f"{step.get('method', 'GET')} {step['get']} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Accept: {step['accept']}\r\n" if "accept" in step else ""
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        stream.sendall(head.encode() + b"\r\n")
        response = http.client.HTTPResponse(stream, method=step.get("method", "GET"))
        response.begin()
        # The Go collector puts the two labels of an exemplar in any order.
        text = re.sub(r'# \{(span_id="\w+"),(trace_id="\w+")\}', r"# {\2,\1}", response.read().decode())
        return response.status, response.headers.get("Content-Type"), text.split("\n")


def record_prometheus(otelcol, cases):
    for case in cases:
        ports = [free_port(), free_port()]
        config = config_of({"server": "otlp", "settings": {}}, ports[0])
        config["exporters"] = {"prometheus": case.get("config", {}) | {"endpoint": f"127.0.0.1:{ports[1]}"}}
        config["service"]["pipelines"] = {"metrics": {"receivers": ["otlp"], "exporters": ["prometheus"]}}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(config, file)
            file.flush()
            process = subprocess.Popen([otelcol, "--config", file.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                await_ports(ports)
                for step in case["steps"]:
                    if "send" in step:
                        ask(ports[0], {"head": ["POST /v1/metrics", "Content-Type: application/json"], "body": json.dumps(step["send"])})
                    elif "wait" in step:
                        time.sleep(step["wait"])
                    else:
                        step["status"], step["content_type"], step["text"] = scrape(ports[1], step)
            finally:
                process.terminate()
                process.wait(20)


ASKED = ("accept", "accept-encoding", "authorization", "x-prometheus-scrape-timeout-seconds", "x-extra")


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def pages_of(case, asked):
    """A target: the n-th request of a URL gets the n-th page, and then the last one."""
    turns = {}

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            place = (self.headers["host"].split(":")[0], self.path)
            turn = turns[place] = turns.get(place, -1) + 1
            if turn == 0:
                headers = {name: self.headers[name] for name in ASKED if name in self.headers}
                asked.append({"path": self.path, "host": place[0], "headers": headers})
            page = case["pages"][min(turn, len(case["pages"]) - 1)]
            if "wait" in page:
                time.sleep(page["wait"])
            if page.get("status", 200) == 0:
                self.close_connection = True
                return
            body = bytes.fromhex(page["hex"]) if "hex" in page else page.get("body", "").encode()
            self.send_response(page.get("status", 200))
            for name, value in ({"content-type": "text/plain; version=0.0.4", "content-length": str(len(body))} | page.get("headers", {})).items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    return Pages


def plain_value(value):
    return next(iter(value.values()), None) if value else None


def plain(attributes):
    return {pair["key"]: plain_value(pair.get("value")) for pair in attributes or []}


def time_of(point, key):
    """A time of now is known by name only, a time of the page as it is."""
    nanos = int(point.get(key, 0))
    return "now" if nanos > 1.7e18 else nanos


def point_of(name, point):
    out = {"attributes": plain(point.get("attributes")), "time": time_of(point, "timeUnixNano"), "start": time_of(point, "startTimeUnixNano")}
    for key in ("asDouble", "count", "sum", "bucketCounts", "explicitBounds", "flags", "quantileValues"):
        if key in point:
            out[key] = point[key]
    if "count" in out:
        out["count"] = int(out["count"])
    if "bucketCounts" in out:
        out["bucketCounts"] = [int(count) for count in out["bucketCounts"]]
    if "quantileValues" in out:
        out["quantileValues"] = [[value.get("quantile", 0), value.get("value", 0)] for value in out["quantileValues"]]
    if name.startswith("scrape_duration") and "asDouble" in out:
        out["asDouble"] = "some"
    if point.get("exemplars"):
        out["exemplars"] = [{"attributes": plain(one.get("filteredAttributes")), "time": time_of(one, "timeUnixNano"), "value": one.get("asDouble"),
                             "trace": one.get("traceId", ""), "span": one.get("spanId", "")} for one in point["exemplars"]]
    return out


def sorted_by_text(items):
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def metric_of(metric):
    kind = next(kind for kind in ("gauge", "sum", "histogram", "summary", "exponentialHistogram") if kind in metric)
    points = sorted_by_text(point_of(metric["name"], point) for point in metric[kind].get("dataPoints", []))
    return {"name": metric["name"], "help": metric.get("description", ""), "unit": metric.get("unit", ""), "kind": kind,
            "monotonic": metric[kind].get("isMonotonic", False), "type": plain(metric.get("metadata")).get("prometheus.type", ""), "points": points}


def delivery_of(request, port):
    """What one scrape gives, in an order of its own: the Go collector has none."""
    request = json.loads(request.replace(f":{port}", ":PORT").replace(f'"{port}"', '"PORT"'))
    resources = []
    for resource in request["resourceMetrics"]:
        scopes = []
        for group in resource["scopeMetrics"]:
            scope = group.get("scope", {})
            is_own = scope.get("name", "").endswith("/prometheusreceiver")
            scopes.append({"scope": "own" if is_own else scope.get("name", ""), "version": "" if is_own else scope.get("version", ""),
                           "schema": group.get("schemaUrl", ""), "attributes": plain(scope.get("attributes")),
                           "metrics": sorted_by_text(map(metric_of, group["metrics"]))})
        resources.append({"resource": plain(resource["resource"].get("attributes")), "scopes": sorted_by_text(scopes)})
    return sorted_by_text(resources)


def target_of(delivery):
    """The resource that says whether the target is up."""
    for resource in delivery:
        if any(metric["name"] == "up" for scope in resource["scopes"] for metric in scope["metrics"]):
            return json.dumps([resource["resource"][key] for key in ("service.name", "service.instance.id")])
    return ""


def record_scraped_case(otelcol, case):
    asked, bodies = [], []

    class Sink(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    target, sink = serve(pages_of(case, asked)), serve(Sink)
    port = target.server_port
    with tempfile.TemporaryDirectory() as folder:
        for name, text in case.get("files", {}).items():
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(text.replace(":PORT", f":{port}"))
        receiver = json.loads(json.dumps(case["receiver"]).replace(":PORT", f":{port}").replace("FOLDER", folder))
        receiver.setdefault("discovery_reload_on_startup", True)
        receiver["config"].setdefault("global", {}).setdefault("scrape_interval", "300ms")
        exporter = {"endpoint": f"http://127.0.0.1:{sink.server_port}", "encoding": "json", "compression": "none", "sending_queue": {"enabled": False}}
        config = {"receivers": {"prometheus": receiver}, "exporters": {"otlp_http": exporter},
                  "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["otlp_http"]}}}}
        with open(f"{folder}/config.yaml", "w", encoding="utf-8") as file:
            json.dump(config, file)
        process = subprocess.Popen([otelcol, "--config", f"{folder}/config.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        lines = []
        threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
        count, expected = len(case["pages"]), case.get("targets", 1)
        by_target = {}
        until = time.time() + 15 + case.get("patience", 0)
        try:
            while time.time() < until and process.poll() is None:
                by_target = {}
                for delivery in [delivery_of(body, port) for body in list(bodies)]:
                    by_target.setdefault(target_of(delivery), []).append(delivery)
                if len(by_target) >= expected and all(len(one) >= count for one in by_target.values()):
                    break
                time.sleep(0.1)
            case.pop("refused", None)
            if process.poll() is not None:
                case["refused"] = True
        finally:
            process.terminate()
            process.wait(20)
    target.shutdown()
    sink.shutdown()
    case["asked"] = sorted_by_text(asked)
    case["delivered"] = [by_target[key][:count] for key in sorted(by_target)]


def record_scraped(otelcol, cases):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda case: record_scraped_case(otelcol, case), cases))


def record_references(otelcol, cases):
    for case in cases:
        # A collector that is stopped before it waits for signals has written nothing.
        attempts = (value_of(otelcol, case["text"]) for _ in range(20))
        outcome = next(outcome for outcome in attempts if outcome)
        case.pop("refused", None)
        case.update(outcome)


def value_of(otelcol, text):
    port = free_port()
    config = config_of({"server": "otlp", "settings": {}}, port)
    with tempfile.TemporaryDirectory() as folder:
        config["processors"] = {"attributes": {"actions": [{"key": "a", "action": "insert", "value": "${env:VALUE}"}]}}
        config["exporters"] = {"file": {"path": f"{folder}/out"}}
        config["service"]["pipelines"] = {"logs": {"receivers": ["otlp"], "processors": ["attributes"], "exporters": ["file"]}}
        with open(f"{folder}/config.yaml", "w", encoding="utf-8") as file:
            json.dump(config, file)
        command = [otelcol, "--config", f"{folder}/config.yaml"]
        process = subprocess.Popen(command, env=os.environ | {"VALUE": text}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None:
            try:
                ask(port, {"head": ["POST /v1/logs", "Content-Type: application/json"], "body": '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}'})
                break
            except OSError:
                time.sleep(0.02)
        process.terminate()
        error = process.communicate(timeout=20)[1].decode(errors="replace")
        if "must be specified" in error:
            return {"value": None}
        if any(reason in error for reason in ("unsupported type", "Invalid value type")):
            return {"refused": True}
        if not os.path.exists(f"{folder}/out") or not os.path.getsize(f"{folder}/out"):
            return None
        with open(f"{folder}/out", encoding="utf-8") as file:
            [record] = json.load(file)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        return {"value": record["attributes"][0]["value"]}


def record_taken(otelcol, cases):
    for case in cases:
        arguments = [part for source in case["sources"] for part in ("--config", source)]
        done = subprocess.run([otelcol, "validate", *arguments], env=os.environ | case.get("environment", {}), capture_output=True, timeout=30)
        case["taken"] = done.returncode == 0


def main():
    otelcol, *files = sys.argv[1:]
    ways = {"answers": record_answers, "prometheus": record_prometheus, "references": record_references, "scraped": record_scraped, "taken": record_taken}
    for path in files or sorted(path for way in ways for path in glob.glob(f"{TOP}/fixtures/{way}/*.jsonl")):
        with open(path, encoding="utf-8") as file:
            cases = [json.loads(line) for line in file]
        ways[os.path.basename(os.path.dirname(os.path.abspath(path)))](otelcol, cases)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(case, ensure_ascii=False) + "\n" for case in cases)
        print(path, len(cases))


if __name__ == "__main__":
    main()
