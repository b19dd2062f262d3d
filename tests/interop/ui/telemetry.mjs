// Telemetry made for the page: hostile text in every place that has a text, and more of it than a screen holds. OTLP/JSON.
import { createWriteStream } from 'node:fs';
import { once } from 'node:events';

/** Every hostile text holds it, so that a screen that shows none of them is noticed. */
export const MARK = 'pwned';
const CONTROLS = Array.from({ length: 32 }, (_, code) => String.fromCharCode(code)).join('');
export const BIDI = '\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c';

/** What tries to become markup, script, a link, a style or another reading order. */
export const CORPUS = [
  '<script>pwned=1;alert(1)</script>',
  '<pwned-x></pwned-x>',
  '"><img id=pwned src=http://other.example/pwned onerror=alert(1)>',
  "'><img id=pwned src=/pwned onerror=alert(1)>",
  '"onmouseover="alert(1)" autofocus onfocus="alert(1)" pwned="',
  'javascript:alert("pwned")',
  'data:text/html,<script>alert("pwned")</script>',
  '//other.example/pwned',
  '/pwned?a=1&b=<b>#c',
  '../../trace/pwned',
  '</textarea></title></style></script></pre></svg><pwned-x></pwned-x>',
  '--><pwned-x></pwned-x><!--',
  ']]><svg id=pwned onload=alert(1)><animate onbegin=alert(1) attributeName=x dur=1s></svg>',
  '<svg><foreignObject><pwned-x></pwned-x></foreignObject></svg>',
  '<base href=http://other.example/pwned/><meta http-equiv=refresh content="0;url=http://other.example/pwned">',
  '<link rel=stylesheet href=http://other.example/pwned.css><style>*{background:url(http://other.example/pwned)}</style>',
  '<iframe id=pwned srcdoc="<script>alert(1)</script>"></iframe><form action=http://other.example/pwned><button>pwned</button></form>',
  '{{7*7}}${7*7}#{7*7}<%= 7*7 %>pwned',
  '&lt;pwned-x&gt;&#60;pwned-x&#62;&quot;&amp;amp;',
  `pwned${BIDI}exe.txt`,
  `pwned${CONTROLS}\u007f\u0085\u009b2Jpwned`,
  'pwned\r\nSet-Cookie: pwned=1\r\n\r\n<pwned-x></pwned-x>',
  'data: pwned\n\nevent: pwned\ndata: 1\n\n',
  'constructor', '__proto__', 'pwned' + '%s%n%00%ff%',
  'pwned\u2028\u2029\ufeff\ufffe\uffff\u{e0041}\u{1f468}\u200d\u{1f469}',
  'pwned' + 'e\u0301\u0489\u20dd'.repeat(300),
  'pwned' + 'long '.repeat(20_000),
  '<pwned-x>'.repeat(11_000),
  'pwned' + '岬'.repeat(33_000),
];

const string = text => ({ stringValue: text });
const pair = (key, text) => ({ key, value: string(text) });
const hex = (number, digits) => number.toString(16).padStart(digits, '0');
// Differs in its first digits, which is what lists show.
const traceId = number => hex(number, 8).padEnd(32, '0');
/** The trace id of a hostile text's request. */
export const hostileTrace = index => traceId(0xbad0000 + index);
const nanoseconds = milliseconds => `${Math.round(milliseconds * 1000)}000`;

/** A long text stands only where `text` itself is used: a request above a quarter of a mebibyte may be left out by the collector. */
const isLong = text => text.length > 20_000;
const short = text => isLong(text) ? text.slice(0, 200) : text;

/** A text as key, as value, and inside of a map and a list. */
function attributes(text) {
  if (isLong(text)) return [pair('long', text)];
  const map = { kvlistValue: { values: [pair(text, text)] } };
  return [pair(text, text), { key: 'map', value: map }, { key: 'list', value: { arrayValue: { values: [string(text), map] } } }];
}

function around(text, service) {
  text = short(text);
  const resource = { attributes: [pair('service.name', service ? text : 'hostile'), pair('service.version', text), ...attributes(text)] };
  return { resource, schemaUrl: text, scope: { name: text, version: text, attributes: attributes(text) } };
}

/** What a page reads of a span beside its name, in the attributes that it reads. */
const KNOWN = ['http.request.method', 'http.route', 'url.full', 'url.path', 'server.address', 'peer.service', 'db.system.name', 'db.query.text', 'db.operation.name',
  'rpc.method', 'rpc.service', 'messaging.destination.name', 'error.type', 'exception.message', 'exception.stacktrace', 'code.file.path', 'session.id'];

function hostileSpans(text, index, now) {
  const ids = { traceId: hostileTrace(index) };
  const times = (from, to) => ({ startTimeUnixNano: nanoseconds(now + from), endTimeUnixNano: nanoseconds(now + to) });
  const event = { timeUnixNano: nanoseconds(now + 5), name: short(text), attributes: attributes(short(text)) };
  const exception = { ...event, name: 'exception', attributes: [pair('exception.type', short(text)), pair('exception.message', short(text)), pair('exception.stacktrace', text)] };
  const root = { ...ids, ...times(0, 100), spanId: hex(0xbad000 + 2 * index, 16), name: text, kind: 2, attributes: attributes(text), traceState: short(text),
    events: [event, exception], links: [{ ...ids, spanId: hex(1, 16), traceState: short(text), attributes: attributes(short(text)) }], status: { code: 2, message: short(text) } };
  const call = { ...ids, ...times(10, 90), spanId: hex(0xbad001 + 2 * index, 16), parentSpanId: root.spanId, name: 'call', kind: 3,
    attributes: KNOWN.map(key => pair(key, short(text))), events: [{ ...event, name: 'exception', attributes: [pair('exception.message', short(text))] }], status: { code: 2 } };
  return [root, call];
}

function hostileMetrics(text, index, now) {
  text = short(text);
  const exemplars = [{ timeUnixNano: nanoseconds(now), asDouble: 3, traceId: hostileTrace(index), spanId: hex(0xbad000 + 2 * index, 16), filteredAttributes: attributes(text) }];
  const point = { startTimeUnixNano: nanoseconds(now - 1000), timeUnixNano: nanoseconds(now), attributes: attributes(text), exemplars };
  const histogram = { ...point, count: '3', sum: 6, bucketCounts: ['1', '2'], explicitBounds: [2] };
  const metric = kind => ({ name: text, description: text, unit: text, metadata: attributes(text), ...kind });
  return [
    metric({ gauge: { dataPoints: [{ ...point, asDouble: 1 }] } }),
    { ...metric({ sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: [{ ...point, asInt: '1' }] } }), name: `sum ${text}` },
    { ...metric({ histogram: { aggregationTemporality: 2, dataPoints: [histogram] } }), name: `histogram ${text}` },
  ];
}

/** The requests of one hostile text, by signal. */
export function hostile(text, index, now) {
  const logs = (service, ids) => {
    const record = { timeUnixNano: nanoseconds(now + 20), severityNumber: 17, severityText: short(text), body: string(text), eventName: short(text), attributes: attributes(short(text)), ...ids };
    const structured = { ...record, body: { kvlistValue: { values: attributes(short(text)) } } };
    const { resource, schemaUrl, scope } = around(text, service);
    return { resource, schemaUrl, scopeLogs: [{ scope, schemaUrl, logRecords: [record, structured] }] };
  };
  const ids = { traceId: hostileTrace(index), spanId: hex(0xbad000 + 2 * index, 16) };
  const { resource, schemaUrl, scope } = around(text, true);
  return {
    traces: { resourceSpans: [{ resource, schemaUrl, scopeSpans: [{ scope, schemaUrl, spans: hostileSpans(text, index, now) }] }] },
    logs: { resourceLogs: [logs(true, ids), logs(false, {})] },
    metrics: { resourceMetrics: [{ resource, schemaUrl, scopeMetrics: [{ scope, schemaUrl, metrics: hostileMetrics(text, index, now) }] }] },
  };
}

function plainSpan(trace, span, parent, name, from, milliseconds) {
  return { traceId: traceId(trace), spanId: hex(span, 16), ...(parent && { parentSpanId: hex(parent, 16) }), name, kind: parent ? 1 : 2,
    startTimeUnixNano: nanoseconds(from), endTimeUnixNano: nanoseconds(from + milliseconds) };
}

function asRequest(service, spans) {
  return { resourceSpans: [{ resource: { attributes: [pair('service.name', service)] }, scopeSpans: [{ scope: { name: 'made' }, spans }] }] };
}

async function write(path, requests) {
  const file = createWriteStream(path);
  for (const request of requests) if (!file.write(`${JSON.stringify(request)}\n`)) await once(file, 'drain');
  file.end();
  await once(file, 'close');
}

/** A file with so many requests of three spans. */
export async function manyRequests(path, count, now) {
  function* requests() {
    for (let first = 1; first <= count; first += 100) {
      const spans = [];
      for (let n = first; n < first + 100 && n <= count; n++) {
        const [from, root] = [now - (count - n) * 5, 0x100000 + 3 * n];
        spans.push(plainSpan(n, root, 0, `GET /page/${n % 50}`, from, 10 + n % 300), plainSpan(n, root + 1, root, 'read', from + 1, 3),
          plainSpan(n, root + 2, root, 'render', from + 5, 4 + n % 280));
      }
      yield asRequest('many', spans);
    }
  }
  await write(path, requests());
}

/** A file with one trace of so many spans, four to a parent, each name at another time. */
export async function longTrace(path, count, now) {
  function* requests() {
    for (let first = 1; first <= count; first += 500) {
      const spans = [];
      for (let n = first; n < first + 500 && n <= count; n++) {
        const depth = Math.ceil(Math.log(3 * n + 1) / Math.log(4)) - 1;
        spans.push(plainSpan(0xa11, n, n === 1 ? 0 : Math.floor((n + 2) / 4), `step ${n}`, now + depth * 10 + n / 100, Math.max(1, 1000 - depth * 120 - n / 50)));
      }
      yield asRequest(`service-${first % 7}`, spans);
    }
  }
  await write(path, requests());
}
