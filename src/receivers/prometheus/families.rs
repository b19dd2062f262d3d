//! The samples of one scrape as metrics: grouped by resource, scope and family, and written as a request.
//!
//! A point keeps its attributes as they will stand on the wire; lines of one histogram or summary meet by these.

mod written;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::otlp::hex;
use crate::otlp::wire::{patch_length, put_bytes, put_fixed64, put_header, put_uint};

use super::labels::{INSTANCE, JOB, Labels, NAME};
use super::metadata::{Described, Metadata};
use super::text::Kind;
use written::ucum;

const SCOPE: &str = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/prometheusreceiver";
const OF_SCOPE: &[u8] = b"otel_scope_";
const TARGET_INFO: &[u8] = b"target_info";
/// Maximum resources and scopes of a page: they are searched one by one.
const SCOPES: usize = 1000;
/// What a point, and a family, occupy beside their texts.
const POINT: usize = size_of::<Point>() + 48;
const FAMILY: usize = size_of::<Family>() + 160;
/// Bytes reserved for a length.
const LENGTH: usize = 3;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;
/// The bit of a point without a value: its series has ended.
const NO_RECORDED_VALUE: u64 = 1;
/// The bits of the number that ends a series.
pub(super) const STALE: u64 = 0x7ff0_0000_0000_0002;

fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE
}

/// How a family becomes a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Gauge,
    Sum,
    Histogram,
    Summary,
}

impl From<Kind> for Form {
    fn from(kind: Kind) -> Form {
        match kind {
            Kind::Counter | Kind::Info | Kind::StateSet => Form::Sum,
            Kind::Histogram => Form::Histogram,
            Kind::Summary => Form::Summary,
            Kind::Gauge | Kind::Unknown | Kind::GaugeHistogram => Form::Gauge,
        }
    }
}

struct Family {
    name: Vec<u8>,
    /// The name under which it was described.
    described: Vec<u8>,
    kind: Kind,
    form: Form,
    help: Vec<u8>,
    unit: Vec<u8>,
    points: Vec<Point>,
}

struct Point {
    /// Where its attributes are.
    attributes: std::ops::Range<usize>,
    /// In milliseconds.
    time: i64,
    /// In nanoseconds; 0 if unknown.
    start: u64,
    /// Of a gauge or sum; the count of the others.
    value: Option<f64>,
    more: Option<Box<More>>,
}

/// Writes a point with its attributes; false if it has no value.
type Write = fn(&Point, &mut Vec<u8>, &[u8]) -> bool;

/// What few points have.
#[derive(Default)]
struct More {
    sum: Option<f64>,
    /// Bounds or quantiles, and their values.
    bounds: Vec<(f64, f64)>,
    /// Written as messages.
    exemplars: Vec<Vec<u8>>,
}

impl Point {
    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}

/// An exemplar with the time it has.
pub(super) struct Exemplar<'a> {
    pub(super) labels: &'a [(&'a [u8], &'a [u8])],
    pub(super) value: f64,
    pub(super) time: i64,
}

struct Resource {
    job: Vec<u8>,
    instance: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A scope of a resource: its name, version, schema and attributes.
#[derive(PartialEq)]
struct Scope {
    resource: usize,
    texts: [Vec<u8>; 3],
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What stands for a target without labels of its own.
pub(super) struct Home<'a> {
    pub(super) job: &'a [u8],
    pub(super) instance: &'a [u8],
    pub(super) scheme: &'a [u8],
    pub(super) trims_suffixes: bool,
}

pub(super) struct Families<'h> {
    home: Home<'h>,
    resources: Vec<Resource>,
    scopes: Vec<Scope>,
    families: Vec<(usize, Family)>,
    by_name: HashMap<(usize, Vec<u8>), usize>,
    /// The points by their family and attributes.
    by_attributes: HashMap<u64, (u32, u32)>,
    attributes: Vec<u8>,
    hasher: RandomState,
    /// Where the last sample went, by its name.
    last: Option<(usize, Vec<u8>, usize)>,
    pub(super) points: usize,
    /// The bytes of families, and of what points have beside their attributes.
    bytes: usize,
    /// Whether there were too many resources or scopes.
    pub(super) is_crowded: bool,
}

impl<'h> Families<'h> {
    pub(super) fn new(home: Home<'h>) -> Families<'h> {
        Families {
            home,
            resources: Vec::new(),
            scopes: Vec::new(),
            families: Vec::new(),
            by_name: HashMap::new(),
            by_attributes: HashMap::new(),
            attributes: Vec::new(),
            hasher: RandomState::new(),
            last: None,
            points: 0,
            bytes: 0,
            is_crowded: false,
        }
    }

    /// The bytes that they hold, more or less.
    pub(super) fn bytes(&self) -> usize {
        self.attributes.capacity() + self.points * POINT + self.bytes
    }

    /// Families are described anew.
    pub(super) fn forget_last(&mut self) {
        self.last = None;
    }

    /// Adds a sample; false if it has no place in its family, so its series is not remembered.
    pub(super) fn add(
        &mut self,
        labels: &Labels<'_>,
        time: i64,
        value: f64,
        exemplar: Option<&Exemplar<'_>>,
        metadata: &Metadata,
    ) -> bool {
        let name = labels.get(NAME);
        self.is_crowded |= self.resources.len().max(self.scopes.len()) > SCOPES;
        if self.is_crowded {
            return false;
        }
        let resource = self.resource(labels);
        if name == TARGET_INFO {
            let described = labels.0.iter().filter(|(key, _)| ![JOB, INSTANCE, NAME].contains(key));
            if let Some(resource) = self.resources.get_mut(resource) {
                self.bytes += labels.0.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
                described.for_each(|(key, value)| put_attribute(&mut resource.attributes, key, value));
            }
            return false;
        }
        let scope = self.scope(resource, labels);
        let place = match &self.last {
            Some((known, last, place)) if *known == scope && last == name => *place,
            _ => {
                let place = self.family(scope, name, metadata);
                self.last = Some((scope, name.to_vec(), place));
                place
            }
        };
        let Some((_, family)) = self.families.get_mut(place) else { return false };
        let start = self.attributes.len();
        put_attributes(&mut self.attributes, family.form, labels);
        let mut hash = self.hasher.build_hasher();
        hash.write_usize(place);
        hash.write(self.attributes.get(start..).unwrap_or_default());
        let index = match self.by_attributes.entry(hash.finish()) {
            std::collections::hash_map::Entry::Occupied(known) => {
                self.attributes.truncate(start);
                known.get().1 as usize
            }
            std::collections::hash_map::Entry::Vacant(new) => {
                let index = family.points.len();
                new.insert((place as u32, index as u32));
                let attributes = start..self.attributes.len();
                family.points.push(Point { attributes, time, start: 0, value: None, more: None });
                self.points += 1;
                index
            }
        };
        let Some(point) = family.points.get_mut(index) else { return false };
        if matches!(family.form, Form::Histogram | Form::Summary) {
            self.bytes += 2 * size_of::<(f64, f64)>();
        }
        let is_in = point.time == time && family_takes(family.form, &family.described, name, labels, value, point);
        // An exemplar stays with its point even if the line has no place there.
        if let Some(exemplar) = exemplar {
            let written = exemplar.written();
            self.bytes += size_of::<More>() + written.len() + 24;
            point.more().exemplars.push(written);
        }
        is_in
    }

    fn resource(&mut self, labels: &Labels<'_>) -> usize {
        let or = |text: &'h [u8], own: &[u8]| if own.is_empty() { text.to_vec() } else { own.to_vec() };
        let [job, instance] = [JOB, INSTANCE].map(|name| labels.get(name));
        let is_of = |own: &[u8], home: &[u8], known: &[u8]| if own.is_empty() { home == known } else { own == known };
        let is_this = |known: &Resource| {
            is_of(job, self.home.job, &known.job) && is_of(instance, self.home.instance, &known.instance)
        };
        if let Some(place) = self.resources.iter().position(is_this) {
            return place;
        }
        let (job, instance) = (or(self.home.job, job), or(self.home.instance, instance));
        let (host, port) = split(&instance);
        let mut attributes = vec![(b"service.name".to_vec(), job.clone())];
        if is_discernible(host) {
            attributes.push((b"server.address".to_vec(), host.to_vec()));
        }
        attributes.push((b"service.instance.id".to_vec(), instance.clone()));
        attributes.push((b"server.port".to_vec(), port.to_vec()));
        attributes.push((b"url.scheme".to_vec(), self.home.scheme.to_vec()));
        self.resources.push(Resource { job, instance, attributes });
        self.resources.len() - 1
    }

    fn scope(&mut self, resource: usize, labels: &Labels<'_>) -> usize {
        let mut texts: [&[u8]; 3] = Default::default();
        let mut attributes = Vec::<(&[u8], &[u8])>::new();
        for (name, value) in &labels.0 {
            let Some(name) = name.strip_prefix(OF_SCOPE) else { continue };
            let known = [b"name".as_slice(), b"version", b"schema_url"].into_iter().position(|known| known == name);
            match known.and_then(|place| texts.get_mut(place)) {
                Some(text) => *text = value,
                None => attributes.push((name, value)),
            }
        }
        let is_same = |one: &[(Vec<u8>, Vec<u8>)]| {
            one.len() == attributes.len()
                && one.iter().zip(&attributes).all(|(one, other)| one.0 == other.0 && one.1 == other.1)
        };
        let mut known = self.scopes.iter();
        let known = known.position(|scope| {
            scope.resource == resource
                && scope.texts.iter().zip(texts).all(|(one, other)| one == other)
                && is_same(&scope.attributes)
        });
        known.unwrap_or_else(|| {
            let attributes = attributes.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            self.scopes.push(Scope { resource, texts: texts.map(<[u8]>::to_vec), attributes });
            self.scopes.len() - 1
        })
    }

    /// The family of a name in a scope.
    fn family(&mut self, scope: usize, name: &[u8], metadata: &Metadata) -> usize {
        if let Some(place) = self.by_name.get(&(scope, name.to_vec())) {
            return *place;
        }
        if metadata.get(name).is_none() {
            let mut of_family = without_suffix(name).to_vec();
            let is_counter = metadata.get(&of_family).is_some_and(|known| known.kind == Kind::Counter);
            if name.ends_with(b"_created") && is_counter {
                of_family.extend_from_slice(b"_total");
            }
            let known = self.by_name.get(&(scope, of_family)).copied();
            if let Some(place) =
                known.filter(|place| self.families.get(*place).is_some_and(|(_, family)| family.includes(name)))
            {
                return place;
            }
        }
        let family = Family::new(name, metadata);
        self.bytes += FAMILY + 2 * family.name.len() + family.described.len() + family.help.len() + family.unit.len();
        let place = self.families.len();
        self.by_name.insert((scope, family.name.clone()), place);
        self.families.push((scope, family));
        place
    }

    /// Writes all as one request; returns it with its number of points.
    pub(super) fn written(self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(self.attributes.len() + self.points * 32 + 1024);
        let mut count = 0;
        let mut of_scopes: Vec<Vec<&Family>> = self.scopes.iter().map(|_| Vec::new()).collect();
        for (scope, family) in &self.families {
            of_scopes.get_mut(*scope).into_iter().for_each(|families| families.push(family));
        }
        for (place, resource) in self.resources.iter().enumerate() {
            let scopes = || self.scopes.iter().enumerate().filter(|(_, scope)| scope.resource == place);
            let before = (out.len(), count);
            message(&mut out, 1, |out| {
                message(out, 1, |out| {
                    resource.attributes.iter().for_each(|(name, value)| put_pair(out, 1, name, value))
                });
                for (index, scope) in scopes() {
                    let before = (out.len(), count);
                    message(out, 2, |out| {
                        message(out, 1, |out| scope.write(out));
                        for family in of_scopes.get(index).into_iter().flatten() {
                            count += family.write(out, &self.attributes, self.home.trims_suffixes);
                        }
                        if let [_, _, schema] = &scope.texts
                            && !schema.is_empty()
                        {
                            put_bytes(out, 3, schema);
                        }
                    });
                    if before.1 == count {
                        out.truncate(before.0);
                    }
                }
            });
            if before.1 == count {
                out.truncate(before.0);
            }
        }
        (out, count)
    }
}

impl Scope {
    fn write(&self, out: &mut Vec<u8>) {
        let [name, version, _] = &self.texts;
        if self.texts.iter().all(Vec::is_empty) && self.attributes.is_empty() {
            put_bytes(out, 1, SCOPE.as_bytes());
            put_bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
            return;
        }
        put_bytes(out, 1, name);
        put_bytes(out, 2, version);
        self.attributes.iter().for_each(|(name, value)| put_pair(out, 3, name, value));
    }
}

impl Exemplar<'_> {
    fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_fixed64(&mut out, 2, nanos(self.time));
        put_fixed64(&mut out, 3, self.value.to_bits());
        for (name, value) in self.labels {
            let id = |name_of: &str, number: u32, length: usize, out: &mut Vec<u8>| {
                let mut id = Vec::new();
                let is_id = name.eq_ignore_ascii_case(name_of.as_bytes())
                    && value.len() == 2 * length
                    && hex::read(value, length, &mut id).is_some()
                    && id.iter().any(|byte| *byte != 0);
                if is_id {
                    put_bytes(out, number, &id);
                }
                is_id
            };
            let is_named = ["trace_id", "span_id"].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
            if !(id("trace_id", 5, 16, &mut out) || id("span_id", 4, 8, &mut out) || is_named && value.is_empty()) {
                put_pair(&mut out, 7, name, value);
            }
        }
        out
    }
}

/// Puts a line's value into its point; false if it has no place there.
fn family_takes(form: Form, described: &[u8], name: &[u8], labels: &Labels<'_>, value: f64, point: &mut Point) -> bool {
    let is_created = || name.strip_suffix(b"_created") == Some(described);
    match form {
        Form::Gauge => point.value = Some(value),
        Form::Sum if is_created() => point.start = nanos_of_seconds(value),
        Form::Sum => point.value = Some(value),
        Form::Histogram | Form::Summary if name.ends_with(b"_sum") => point.more().sum = Some(value),
        Form::Histogram | Form::Summary if name.ends_with(b"_count") => point.value = Some(value),
        Form::Histogram | Form::Summary if is_created() => point.start = nanos_of_seconds(value),
        Form::Histogram | Form::Summary => {
            let bound = labels.get(if form == Form::Histogram { b"le" } else { b"quantile" });
            let Ok(bound) = super::text::number(bound) else { return false };
            point.more().bounds.push((bound, value));
        }
    }
    true
}

impl Family {
    fn new(name: &[u8], metadata: &Metadata) -> Family {
        let (of_family, described) = metadata.of_sample(name);
        let Described { kind, help, unit } = described;
        let (of_family, described) = match kind {
            // With a suffix of its own, a sample of a counter stays the counter that it is.
            Kind::Counter if of_family != name && !name.ends_with(b"_created") => (name.to_vec(), of_family),
            Kind::Counter if of_family != name => ([of_family, b"_total"].concat(), of_family),
            _ => (of_family.to_vec(), of_family),
        };
        Family {
            name: of_family,
            described: described.to_vec(),
            kind,
            form: kind.into(),
            help,
            unit,
            points: Vec::new(),
        }
    }

    fn includes(&self, name: &[u8]) -> bool {
        match self.form {
            Form::Sum => without_suffix(name) == self.described,
            Form::Gauge => name == self.name,
            Form::Histogram | Form::Summary => without_suffix(name) == self.name,
        }
    }

    /// Writes the metric; returns its number of points. Without points it is not written.
    fn write(&self, out: &mut Vec<u8>, attributes: &[u8], trims_suffixes: bool) -> u32 {
        let (start, mut count) = (out.len(), 0);
        message(out, 2, |out| {
            put_bytes(out, 1, if trims_suffixes { self.trimmed() } else { &self.name });
            if !self.help.is_empty() {
                put_bytes(out, 2, &self.help);
            }
            if !self.unit.is_empty() {
                put_bytes(out, 3, ucum(&self.unit).as_bytes());
            }
            let (number, write): (u32, Write) = match self.form {
                Form::Gauge => (5, Point::write_gauge),
                Form::Sum => (7, Point::write_sum),
                Form::Histogram => (9, Point::write_histogram),
                Form::Summary => (11, Point::write_summary),
            };
            message(out, number, |out| {
                for point in &self.points {
                    let (start, mut is_written) = (out.len(), false);
                    let attributes = attributes.get(point.attributes.clone()).unwrap_or_default();
                    message(out, 1, |out| is_written = write(point, out, attributes));
                    if is_written {
                        count += 1;
                    } else {
                        out.truncate(start);
                    }
                }
                if matches!(self.form, Form::Sum | Form::Histogram) {
                    put_uint(out, 2, CUMULATIVE);
                }
                if self.kind == Kind::Counter {
                    put_uint(out, 3, 1);
                }
            });
            put_pair(out, 12, b"prometheus.type", self.kind.name().as_bytes());
        });
        if count == 0 {
            out.truncate(start);
        }
        count
    }

    /// The name without the suffixes of its type and unit.
    fn trimmed(&self) -> &[u8] {
        let mut name = self.name.as_slice();
        if self.form == Form::Sum {
            name = name.strip_suffix(b"_total").unwrap_or(name);
        }
        let unit = (!self.unit.is_empty()).then(|| name.strip_suffix(self.unit.as_slice())?.strip_suffix(b"_"));
        unit.flatten().unwrap_or(name)
    }
}

/// Writes a message whose length is not known beforehand.
fn message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_header(out, number, 0);
    out.pop();
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    write(out);
    patch_length(out, at, LENGTH);
}

fn put_pair(out: &mut Vec<u8>, number: u32, name: &[u8], value: &[u8]) {
    let of = |length: usize| 1 + crate::otlp::wire::varint_len(length as u64) + length;
    let text = of(value.len());
    put_header(out, number, of(name.len()) + of(text));
    put_bytes(out, 1, name);
    put_header(out, 2, text);
    put_bytes(out, 1, value);
}

/// The labels that are attributes of a point of this form.
fn put_attributes(out: &mut Vec<u8>, form: Form, labels: &Labels<'_>) {
    let (number, bound) = match form {
        Form::Gauge | Form::Sum => (7, b"".as_slice()),
        Form::Histogram => (9, b"le".as_slice()),
        Form::Summary => (7, b"quantile".as_slice()),
    };
    for (name, value) in &labels.0 {
        let is_else = [NAME, JOB, INSTANCE, b"__scheme__", b"__metrics_path__", bound].contains(name);
        if !is_else && !name.starts_with(OF_SCOPE) {
            put_pair(out, number, name, value);
        }
    }
}

fn put_attribute(attributes: &mut Vec<(Vec<u8>, Vec<u8>)>, name: &[u8], value: &[u8]) {
    match attributes.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => attributes.push((name.to_vec(), value.to_vec())),
    }
}

fn nanos(millis: i64) -> u64 {
    millis.wrapping_mul(1_000_000).cast_unsigned()
}

fn nanos_of_seconds(seconds: f64) -> u64 {
    let whole = seconds as i64;
    let rest = ((seconds - whole as f64) * 1e9) as i64;
    whole.wrapping_mul(1_000_000_000).wrapping_add(rest).cast_unsigned()
}

/// A name without the suffix by which a family's lines differ.
pub(super) fn without_suffix(name: &[u8]) -> &[u8] {
    let suffixes: [&[u8]; 6] = [b"_bucket", b"_count", b"_sum", b"_total", b"_info", b"_created"];
    let rest = suffixes.iter().find_map(|suffix| name.strip_suffix(*suffix));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// Host and port; all is the host if it has no port.
fn split(instance: &[u8]) -> (&[u8], &[u8]) {
    let whole = (instance, b"".as_slice());
    let Some(at) = memchr::memrchr(b':', instance) else { return whole };
    let (host, port) = instance.split_at_checked(at).unwrap_or_default();
    let port = port.get(1..).unwrap_or_default();
    let inside = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let is_sound = |text: &[u8], not: &[u8]| !text.iter().any(|byte| not.contains(byte));
    match inside {
        Some(inside) if is_sound(inside, b"[]") && is_sound(port, b"[]") => (inside, port),
        None if is_sound(host, b":[]") && is_sound(port, b"[]") => (host, port),
        _ => whole,
    }
}

/// Whether the host says which one it is.
fn is_discernible(host: &[u8]) -> bool {
    let text = String::from_utf8_lossy(host);
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) => !ip.to_canonical().is_loopback() && !ip.to_canonical().is_unspecified(),
        Err(_) => text != "localhost",
    }
}
