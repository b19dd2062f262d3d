//! Values that are not in telemetry: the type of a metric, the cache, the client.

use super::nested::{self, set_map};
use super::{Path, evaluated};
use crate::otlp::views::metrics::DataType;
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value, put_entry, put_item};
use crate::telemetry::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    MetricType,
    EventIndex,
    Cache,
    ClientAddress,
    ClientMetadata,
    ClientAuth,
    GrpcMetadata,
}

impl Path {
    pub(super) fn get_outside<'a>(&'a self, value: Outside, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        let keys = evaluated(&self.keys, scene)?;
        let (unknown, arena) = (Client::default(), scene.arena);
        let client = scene.client.unwrap_or(&unknown);
        let map = match value {
            Outside::MetricType => return Ok(Value::Int(DataType::of(scene.sight.data_number) as i64)),
            // The Go collector never sets it either.
            Outside::EventIndex => return Err(Fault::new("no 'event_index' property has been set")),
            Outside::ClientAddress => match client.address() {
                Some(address) => return nested::get(arena.text(&address)?, &keys),
                None => return nested::get(Value::Nil, &keys),
            },
            Outside::Cache => scene.cache,
            Outside::ClientMetadata => arena.keep(&lists(&client.metadata))?,
            Outside::GrpcMetadata => arena.keep(&lists(&client.grpc))?,
            Outside::ClientAuth => {
                let mut map = Vec::new();
                for (name, value) in &client.auth {
                    put_entry(&mut map, name.as_bytes(), &Value::String(value.as_bytes()));
                }
                arena.keep(&map)?
            }
        };
        nested::get(Value::Map(map), &keys)
    }

    pub(super) fn set_outside<'a>(
        &'a self,
        old: Outside,
        scene: &mut Scene<'_, 'a>,
        value: Value<'a>,
    ) -> Result<(), Fault> {
        match old {
            Outside::MetricType => Ok(()),
            Outside::EventIndex => Err(Fault::new("the 'event_index' path cannot be modified")),
            Outside::Cache => {
                let keys = evaluated(&self.keys, scene)?;
                scene.cache = set_map(scene.cache, &keys, value, scene.arena)?;
                Ok(())
            }
            Outside::ClientAddress | Outside::ClientMetadata | Outside::ClientAuth | Outside::GrpcMetadata => {
                let name = self.row.name;
                Err(Fault::new(format!("\"otelcol.{name}\" is read-only and cannot be modified")))
            }
        }
    }
}

/// Metadata as a map from each name to the list of its values.
fn lists(metadata: &[(String, String)]) -> Vec<u8> {
    let mut map = Vec::new();
    for (index, (name, _)) in metadata.iter().enumerate() {
        if metadata.iter().take(index).any(|(earlier, _)| earlier == name) {
            continue;
        }
        let mut values = Vec::new();
        for (_, value) in metadata.iter().filter(|(other, _)| other == name) {
            put_item(&mut values, &Value::String(value.as_bytes()));
        }
        put_entry(&mut map, name.as_bytes(), &Value::List(&values));
    }
    map
}
