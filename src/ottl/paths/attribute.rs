//! Attributes: the whole list as a map, or one attribute by its key and what is nested in its value.

use super::nested::{self, map_key, retag, set_map};
use super::{Path, evaluated};
use crate::otlp::schema::list;
use crate::otlp::views::Repeated;
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

impl Path {
    pub(super) fn get_attribute<'a>(&'a self, number: u32, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        let Some((key, rest)) = self.keys.split_first() else {
            let map = retag(self.message(scene.sight).payloads(number), list::VALUES);
            return Ok(Value::Map(scene.arena.keep(&map)?));
        };
        let (key, rest) = (key.evaluate(scene)?, evaluated(rest, scene)?);
        let found = self.message(scene.sight).attribute(number, map_key(key, "get")?);
        found.map_or(Ok(Value::Nil), |found| nested::get(Value::from_any(found), &rest))
    }

    pub(super) fn set_attribute<'a>(
        &'a self,
        number: u32,
        scene: &mut Scene<'_, 'a>,
        value: Value<'a>,
    ) -> Result<(), Fault> {
        let arena = scene.arena;
        let Some((key, rest)) = self.keys.split_first() else {
            let map = Repeated::of(set_map(&[], &[], value, arena)?, list::VALUES);
            let all = arena.keep(&retag(map, number))?;
            let message = self.message(scene.sight);
            message.remove(number);
            message.append(all);
            return Ok(());
        };
        let (key, rest) = (key.evaluate(scene)?, evaluated(rest, scene)?);
        let (key, message) = (map_key(key, "set")?, self.message(scene.sight));
        let new = match (&*rest, value.any_len()) {
            // The most common case: the new value does not depend on the current one.
            ([], Some(_)) => value,
            _ => {
                let current = message.attribute(number, key).map_or(Value::Nil, Value::from_any);
                nested::set(current, &rest, value, arena)?
            }
        };
        message.set_attribute(number, key, arena.keep_attribute(number, key, &new)?);
        nested::storable(&value)
    }
}
