#!/usr/bin/env python3
"""Writes anew what a Go collector does with the cases of these files, each line of which is one case.

  tests/conformance/record.py OTELCOL [FILE...]            default: all of fixtures/answers, fixtures/prometheus, fixtures/references, and fixtures/taken

answers/*.jsonl      a request, and the status and the headers of its answer. A redirect is followed to where it leads
prometheus/*.jsonl   settings of the exporter, and steps: requests, waits in seconds, and scrapes with what they get
references/*.jsonl   the text of a variable, and what it is in a field without a type: an attribute's value, null, or refused
taken/*.jsonl        a config, and whether `validate` takes it"""
import base64, glob, http.client, json, os, re, socket, subprocess, sys, tempfile, time

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
    ways = {"answers": record_answers, "prometheus": record_prometheus, "references": record_references, "taken": record_taken}
    for path in files or sorted(path for way in ways for path in glob.glob(f"{TOP}/fixtures/{way}/*.jsonl")):
        with open(path, encoding="utf-8") as file:
            cases = [json.loads(line) for line in file]
        ways[os.path.basename(os.path.dirname(os.path.abspath(path)))](otelcol, cases)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(case, ensure_ascii=False) + "\n" for case in cases)
        print(path, len(cases))


if __name__ == "__main__":
    main()
