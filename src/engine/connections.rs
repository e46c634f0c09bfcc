//! The connections of a core, and which of them are to be looked at.

use super::connection::{Connection, ConnectionId, Reception};

/// The connections of a core.
#[derive(Default)]
pub(super) struct Connections {
    places: Vec<Option<Box<Connection>>>,
    count: usize,
    /// Connections that have something to be sent, closed or resumed at the end of this turn.
    pub(super) touched: Vec<ConnectionId>,
    /// Connections whose passwords wait, and until when: see [`crate::brake`].
    pub(super) braked: Vec<(ConnectionId, u64)>,
    /// Connections that wait for their peers to end, and since when.
    pub(super) lingering: Vec<(ConnectionId, u64)>,
    /// On core 0: the number of the gateway's connections that each core has.
    pub(super) by_core: Vec<usize>,
}

impl Connections {
    /// None, on one of so many cores.
    pub(super) fn new(cores: usize) -> Self {
        Self { by_core: vec![0; cores], ..Self::default() }
    }

    /// The connection, if it is still there.
    #[inline]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.at(id.place()).filter(|connection| connection.id == id)
    }

    /// The connection, if it is still there.
    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.places.get_mut(id.place())?.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// The connection in a place.
    #[inline]
    pub(super) fn at(&self, place: usize) -> Option<&Connection> {
        self.places.get(place)?.as_deref()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.places.iter().flatten().map(|connection| &**connection)
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds a connection.
    ///
    /// # Panics
    /// If there is one in its place.
    pub(super) fn add(&mut self, connection: Connection) {
        let place = connection.id.place();
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        assert!(self.places[place].is_none(), "a place holds one connection");
        self.places[place] = Some(Box::new(connection));
        self.count += 1;
    }

    /// Takes a connection out for good.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let connection = self.places.get_mut(id.place())?.take_if(|connection| connection.id == id)?;
        self.count -= 1;
        Some(connection)
    }

    /// Has a connection looked at when the turn ends.
    #[inline]
    pub(super) fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id)
            && !connection.is_touched
        {
            connection.is_touched = true;
            self.touched.push(id);
        }
    }

    /// Has every connection looked at that is meant.
    pub(super) fn touch_if(&mut self, is_meant: impl Fn(&Connection) -> bool) {
        let meant: Vec<_> = self.iter().filter(|connection| is_meant(connection)).map(|c| c.id).collect();
        meant.into_iter().for_each(|id| self.touch(id));
    }

    /// Has every connection looked at that had to wait and may not have to any more.
    pub(super) fn touch_waiting(&mut self) {
        self.touch_if(|connection| connection.reception == Reception::Paused || connection.session.has_waited);
    }

    /// The core of the server with the fewest of the gateway's connections; it has one more now.
    pub(super) fn choose_core(&mut self) -> usize {
        let fewest = (0..self.by_core.len()).min_by_key(|&core| self.by_core[core]);
        let core = fewest.expect("a server has a core");
        self.by_core[core] += 1;
        core
    }
}
