//! The owner of each key. Hashing a key costs the generator more than most of what it does by itself, so it is done once a key.

use super::{target::Placement, wire::Wire};
use trine::slot::Slot;
use trine_client::routing::{Node, Routing};

/// So many keys have their hash remembered: two bytes each, 8 MiB. Others are hashed every time.
const REMEMBERED_MAX: u64 = 4 << 20;
/// Of 65,536 nodes the last one's keys are hashed every time, too.
const UNKNOWN: u16 = u16::MAX;

/// The owners of keys, by the keys' numbers.
pub(crate) struct Owners {
    placement: Placement,
    /// The fixed point that each key's owner follows from: its slot, or its node where keys are placed on a circle.
    points: Vec<u16>,
}

impl Owners {
    /// For keys below `keys`.
    pub(crate) fn new(placement: Placement, keys: u64) -> Self {
        Self { placement, points: vec![UNKNOWN; keys.min(REMEMBERED_MAX) as usize] }
    }

    /// The owner of a key, as far as is known.
    #[inline]
    pub(crate) fn owner(&mut self, key: u64, wire: &mut Wire, routing: &Routing) -> Node {
        let points = &mut self.points;
        match &self.placement {
            Placement::First => Node(0),
            Placement::Slots => {
                let slot = remembered(points, key, || Slot::of(wire.key(key)).number());
                routing.owner(Slot::new(slot).expect("a slot's number was remembered"))
            }
            Placement::Circle(circle) => Node(remembered(points, key, || circle.node_of(wire.key(key)).0)),
        }
    }

    /// A server has said that slots count, and whose they are.
    pub(crate) fn follow_slots(&mut self) {
        if !matches!(self.placement, Placement::Slots) {
            self.placement = Placement::Slots;
            self.points.fill(UNKNOWN);
        }
    }
}

/// A key's point, worked out where it is not known.
#[inline]
fn remembered(points: &mut [u16], key: u64, work_out: impl FnOnce() -> u16) -> u16 {
    match points.get_mut(key as usize) {
        None => work_out(),
        Some(point) => {
            if *point == UNKNOWN {
                *point = work_out();
            }
            *point
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::Keys, wire::Commands};
    use trine_client::consistent::Circle;

    /// A key's owner is the same the first time and later, within what is remembered and beyond, on a circle and by slots; and
    /// those of a circle are not taken for slots.
    #[test]
    fn owners_are_remembered() {
        let servers = ["a:1", "b:1", "c:1"];
        let circle = Circle::new(&servers);
        let keys = [0, 1, 7, 4242, REMEMBERED_MAX - 1, REMEMBERED_MAX, REMEMBERED_MAX * 9];
        let mut names = Keys::shared(16, REMEMBERED_MAX * 10).unwrap();
        let mut wire = Wire::Resp(Commands::new(names.clone()));
        let mut routing = Routing::several(servers.map(Into::into).into());
        let mut owners = Owners::new(Placement::Circle(circle.clone()), REMEMBERED_MAX * 10);
        for key in keys.into_iter().chain(keys) {
            assert_eq!(owners.owner(key, &mut wire, &routing), circle.node_of(names.text(key)), "{key}");
        }
        owners.follow_slots();
        for node in ["b:1", "c:1"] {
            for key in keys {
                let slot = Slot::of(names.text(key));
                let there = routing.moved(slot, node.into()).unwrap();
                assert_eq!(owners.owner(key, &mut wire, &routing), there, "{key}");
            }
        }
    }
}
