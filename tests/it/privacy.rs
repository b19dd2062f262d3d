//! `pipelines/edge-privacy.yaml`: a secret of its own in every place of OTLP that can hold text, and which of them come out.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use misaki::face::telemetry::Signal;
use serde_json::{Value as Json, json};

use super::harness::*;

/// The fields of each message of `otlp/schema.rs`: those that can hold text, and those that hold messages, numbers and ids.
const FIELDS: &[(&str, &str, &str)] = &[
    ("request", "", "RESOURCES"),
    ("resource_group", "SCHEMA_URL", "RESOURCE SCOPES"),
    ("scope_group", "SCHEMA_URL", "SCOPE RECORDS"),
    ("resource", "ATTRIBUTES", "DROPPED_ATTRIBUTES_COUNT ENTITY_REFS"),
    ("entity_ref", "SCHEMA_URL TYPE ID_KEYS DESCRIPTION_KEYS", ""),
    ("scope", "NAME VERSION ATTRIBUTES", "DROPPED_ATTRIBUTES_COUNT"),
    (
        "log_record",
        "SEVERITY_TEXT BODY ATTRIBUTES EVENT_NAME",
        "TIME SEVERITY_NUMBER DROPPED_ATTRIBUTES_COUNT FLAGS TRACE_ID SPAN_ID OBSERVED_TIME",
    ),
    (
        "span",
        "TRACE_STATE NAME ATTRIBUTES",
        "TRACE_ID SPAN_ID PARENT_SPAN_ID KIND START END DROPPED_ATTRIBUTES_COUNT EVENTS DROPPED_EVENTS_COUNT LINKS DROPPED_LINKS_COUNT STATUS FLAGS",
    ),
    ("event", "NAME ATTRIBUTES", "TIME DROPPED_ATTRIBUTES_COUNT"),
    ("link", "TRACE_STATE ATTRIBUTES", "TRACE_ID SPAN_ID DROPPED_ATTRIBUTES_COUNT FLAGS"),
    ("status", "MESSAGE", "CODE"),
    ("metric", "NAME DESCRIPTION UNIT METADATA", "GAUGE SUM HISTOGRAM EXPONENTIAL_HISTOGRAM SUMMARY"),
    ("metric_data", "", "POINTS AGGREGATION_TEMPORALITY IS_MONOTONIC"),
    ("number_point", "ATTRIBUTES", "START TIME AS_DOUBLE EXEMPLARS AS_INT FLAGS"),
    ("histogram_point", "ATTRIBUTES", "START TIME COUNT SUM BUCKET_COUNTS EXPLICIT_BOUNDS EXEMPLARS FLAGS MIN MAX"),
    (
        "exponential_point",
        "ATTRIBUTES",
        "START TIME COUNT SUM SCALE ZERO_COUNT POSITIVE NEGATIVE FLAGS EXEMPLARS MIN MAX ZERO_THRESHOLD",
    ),
    ("buckets", "", "OFFSET BUCKET_COUNTS"),
    ("summary_point", "ATTRIBUTES", "START TIME COUNT SUM QUANTILES FLAGS"),
    ("quantile", "", "QUANTILE VALUE"),
    ("exemplar", "FILTERED_ATTRIBUTES", "TIME AS_DOUBLE SPAN_ID TRACE_ID AS_INT"),
    // What `Places::attributes` and `Places::bodies` are made of.
    ("key_value", "", "KEY VALUE"),
    ("any_value", "", "STRING BOOL INT DOUBLE ARRAY KVLIST BYTES"),
    ("list", "", "VALUES"),
];

/// What the file says is not masked.
fn is_said(place: &str) -> bool {
    place.ends_with(" bytes") || place == "link.ATTRIBUTES key" || place.starts_with("entity_ref.")
}

/// The places that hold a secret, `message.FIELD` and what kind of value it is in, each with what to look for.
#[derive(Default)]
struct Places(Vec<(String, String)>);

impl Places {
    fn email(&mut self, place: &str) -> String {
        let secret = format!("p{}@example.org", self.0.len());
        self.0.push((place.to_owned(), secret.clone()));
        secret
    }

    /// A card's number. A number may be written with an exponent, so it is known by the digits behind its first.
    fn card(&mut self, place: &str) -> u64 {
        let card = 4_111_111_100_000_001 + 10 * self.0.len() as u64;
        self.0.push((place.to_owned(), card.to_string().split_off(1)));
        card
    }

    fn values(&mut self, place: &str) -> Vec<Json> {
        let at = |kind: &str| format!("{place} {kind}");
        let (list, map, line) = (at("list"), at("map"), at("list after a line break"));
        let mut bytes = BASE64_STANDARD_NO_PAD.encode(self.email(&at("bytes")).as_bytes());
        self.0.last_mut().unwrap().1 = bytes.clone();
        bytes.push_str("==".get(..(4 - bytes.len() % 4) % 4).unwrap());
        let broken = format!("a card:\n{}", self.card(&line));
        let token = format!("token{}x", self.0.len());
        self.0.push((at("token"), token.clone()));
        vec![
            json!({"stringValue": self.email(&at("text"))}),
            json!({"stringValue": format!("{}", self.card(&at("text of digits")))}),
            json!({"stringValue": format!("Bearer {token}=")}),
            json!({"intValue": self.card(&at("int")).to_string()}),
            json!({"doubleValue": self.card(&at("double")) as f64}),
            json!({"bytesValue": bytes}),
            json!({"arrayValue": {"values": [
                {"stringValue": self.email(&list)}, {"intValue": self.card(&list).to_string()},
                {"arrayValue": {"values": [{"stringValue": self.email(&list)}, {"stringValue": broken}]}},
                {"kvlistValue": {"values": [{"key": "deep", "value": {"stringValue": self.email(&list)}}]}},
            ]}}),
            json!({"kvlistValue": {"values": [
                {"key": "in", "value": {"stringValue": self.email(&map)}},
                {"key": "deep", "value": {"kvlistValue": {"values": [{"key": "in", "value": {"stringValue": self.email(&map)}}]}}},
            ]}}),
            json!({"kvlistValue": {"values": [{"key": self.email(&at("key in a map")), "value": {"boolValue": true}}]}}),
            json!({"kvlistValue": {"values": [{"key": "deep", "value": {"kvlistValue": {"values": [
                {"key": self.email(&at("key deep in a map")), "value": {"stringValue": "kept"}},
            ]}}}]}}),
        ]
    }

    fn attributes(&mut self, place: &str) -> Vec<Json> {
        let values = self.values(place).into_iter().enumerate();
        let mut attributes: Vec<_> =
            values.map(|(index, value)| json!({"key": format!("k{index}"), "value": value})).collect();
        attributes.push(json!({"key": self.email(&format!("{place} key")), "value": {"boolValue": true}}));
        attributes.push(json!({"key": "kept", "value": {"stringValue": "kept"}}));
        attributes
    }

    fn resource(&mut self) -> Json {
        json!({
            "attributes": self.attributes("resource.ATTRIBUTES"),
            "entityRefs": [{
                "schemaUrl": self.email("entity_ref.SCHEMA_URL"), "type": self.email("entity_ref.TYPE"),
                "idKeys": [self.email("entity_ref.ID_KEYS")], "descriptionKeys": [self.email("entity_ref.DESCRIPTION_KEYS")],
            }],
        })
    }

    fn scope(&mut self) -> Json {
        json!({
            "name": self.email("scope.NAME"), "version": self.email("scope.VERSION"),
            "attributes": self.attributes("scope.ATTRIBUTES"),
        })
    }

    fn request(&mut self, signal: Signal, records: Vec<Json>) -> Json {
        let (resources, scopes, name) = match signal {
            Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
            Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
            Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
        };
        let scope = json!({"scope": self.scope(), "schemaUrl": self.email("scope_group.SCHEMA_URL"), name: records});
        json!({resources: [{"resource": self.resource(), "schemaUrl": self.email("resource_group.SCHEMA_URL"), scopes: [scope]}]})
    }

    fn logs(&mut self) -> Json {
        let bodies = self.values("log_record.BODY");
        let mut records: Vec<_> = bodies.into_iter().map(|body| json!({"body": body})).collect();
        records.push(json!({
            "severityText": self.email("log_record.SEVERITY_TEXT"), "eventName": self.email("log_record.EVENT_NAME"),
            "attributes": self.attributes("log_record.ATTRIBUTES"),
        }));
        self.request(Signal::Logs, records)
    }

    fn traces(&mut self) -> Json {
        let span = json!({
            "traceId": "267e3466a645f6129abffdbf4c43add2", "spanId": "7f5aa898380ff08c",
            "name": self.email("span.NAME"), "traceState": format!("vendor={}", self.email("span.TRACE_STATE")),
            "attributes": self.attributes("span.ATTRIBUTES"), "status": {"message": self.email("status.MESSAGE"), "code": 2},
            "events": [{"name": self.email("event.NAME"), "attributes": self.attributes("event.ATTRIBUTES")}],
            "links": [{
                "traceId": "267e3466a645f6129abffdbf4c43add2", "spanId": "7f5aa898380ff08c",
                "traceState": format!("vendor={}", self.email("link.TRACE_STATE")), "attributes": self.attributes("link.ATTRIBUTES"),
            }],
        });
        self.request(Signal::Traces, vec![span])
    }

    fn metrics(&mut self) -> Json {
        let kinds = [
            ("gauge", "number_point"),
            ("sum", "number_point"),
            ("histogram", "histogram_point"),
            ("exponentialHistogram", "exponential_point"),
            ("summary", "summary_point"),
        ];
        let mut metrics = Vec::new();
        for (kind, point) in kinds {
            let mut point = json!({"attributes": self.attributes(&format!("{point}.ATTRIBUTES"))});
            if kind != "summary" {
                let exemplar =
                    json!({"asDouble": 1.5, "filteredAttributes": self.attributes("exemplar.FILTERED_ATTRIBUTES")});
                point["exemplars"] = json!([exemplar]);
            }
            metrics.push(json!({
                "name": self.email("metric.NAME"), "description": self.email("metric.DESCRIPTION"), "unit": self.email("metric.UNIT"),
                "metadata": self.attributes("metric.METADATA"), kind: {"dataPoints": [point]},
            }));
        }
        self.request(Signal::Metrics, metrics)
    }
}

#[tokio::test]
async fn the_private_edge_masks_every_text_but_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let edge = std::fs::read_to_string("pipelines/edge-privacy.yaml").unwrap();
    let edge = edge.replace("exporters: [otlp_grpc]", "exporters: [file]").replace("0.0.0.0:4317", "127.0.0.1:0");
    let edge = edge.replace("0.0.0.0:4318", "127.0.0.1:0").replace("localhost:13133", "127.0.0.1:0");
    let file = format!(
        "{{exporters: {{file: {{path: '{}'}}}}, service: {{telemetry: {{metrics: {{level: none}}}}}}}}",
        out.display()
    );
    let environment = |name: &str| (name == "UPSTREAM").then(|| "127.0.0.1:9".to_owned());
    let mut misaki = Misaki::load(&[&edge, &file], 1, &environment).await;
    let mut places = Places::default();
    for (signal, json) in
        [(Signal::Logs, places.logs()), (Signal::Traces, places.traces()), (Signal::Metrics, places.metrics())]
    {
        let answer = misaki.post_json(signal, json.to_string()).await;
        assert!(answer.ok, "{answer:?}");
    }
    misaki.finish().await;
    let out = std::fs::read_to_string(&out).unwrap();
    let places = places.0;
    let leaked: BTreeSet<&String> =
        places.iter().filter(|(_, secret)| out.contains(secret)).map(|(place, _)| place).collect();
    let said: BTreeSet<&String> = places.iter().map(|(place, _)| place).filter(|place| is_said(place)).collect();
    let unsaid: Vec<_> = leaked.difference(&said).collect();
    let masked: Vec<_> = said.difference(&leaked).collect();
    assert!(unsaid.is_empty() && masked.is_empty(), "not masked: {unsaid:#?}; masked, but said not to be: {masked:#?}");
    let lists = places.iter().filter(|(place, _)| place.ends_with("ATTRIBUTES key") || place.ends_with("METADATA key"));
    let kept = r#""key":"kept","value":{"stringValue":"kept"}"#;
    assert_eq!(out.matches(kept).count(), lists.count(), "what is no secret stays");
    every_field_is_one_of_them(&places);
}

/// A field that the schema gains is no place yet, and one of text has to hold a secret.
fn every_field_is_one_of_them(places: &[(String, String)]) {
    let schema = std::fs::read_to_string("src/otlp/schema.rs").unwrap();
    let messages = schema.split("\nmessages! {").last().unwrap().split("\n}").next().unwrap();
    let mut known = 0;
    for message in messages.split('}').filter(|message| message.contains('{')) {
        let (name, fields) = message.split_once('{').unwrap();
        let row = FIELDS.iter().find(|row| name.split_whitespace().last() == Some(row.0));
        let (name, texts, others) = row.unwrap_or_else(|| panic!("{name} is not in the table"));
        // Messages of one shape share the names of one of them, which has the numbers.
        let numbered = fields.split(',').filter_map(|field| field.split_once('='));
        for field in numbered.filter_map(|(names, _)| names.split_whitespace().last()) {
            known += 1;
            let place = format!("{name}.{field}");
            let is_text = texts.split(' ').any(|text| text == field);
            assert!(is_text || others.split(' ').any(|other| other == field), "{place} is not in the table");
            let holds = places.iter().any(|(known, _)| known.split(' ').next() == Some(&place));
            assert_eq!(holds, is_text, "{place}");
        }
    }
    assert!(known > 100, "the schema was not read: {known} fields");
}

/// A pattern that `redaction` knows and a statement does not would hold in some places only.
#[test]
fn every_statement_has_all_the_patterns() {
    let edge = std::fs::read_to_string("pipelines/edge-privacy.yaml").unwrap();
    let (_, behind) = edge.split_once("blocked_values:\n").unwrap();
    let (values, statements) = behind.split_once("summary:").unwrap();
    let values = values.lines().filter_map(|line| line.trim().strip_prefix("- \"")?.strip_suffix('"'));
    let all = format!("\"{}\"", values.collect::<Vec<_>>().join("|"));
    let statements = statements.lines().filter(|line| line.trim().starts_with("- '"));
    let mut count = 0;
    for statement in statements {
        assert!(statement.contains(&all), "{statement} is without {all}");
        count += 1;
    }
    assert!(count >= 20, "{count} statements");
}
