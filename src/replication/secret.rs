//! Mutual proof that both ends of a link know the cluster's secret, before anything else that they say is believed.
//!
//! Both ends send a [`Message::Challenge`], with a random number and their name. Each answers the other's with an HMAC-SHA256,
//! keyed by the secret, of: this protocol, the prover's role, both numbers (the primary's end first), and both names. A proof is
//! good for one connection, one direction and one pair of names; sent back to who made it, it is the proof of the other role.
//!
//! The connection is not encrypted: the secret keeps strangers out, not those who can change packets on the way.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::message::{Message, PROTOCOL};
use crate::topology::document::CoreId;

/// The shortest secret. Proofs can be seen on the network, and a short secret be found by trying.
pub const SECRET_BYTES_MIN: usize = 16;

/// The secret that the servers of a cluster share.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret(…)")
    }
}

impl Secret {
    /// Returns the secret of these bytes, if they are at least [`SECRET_BYTES_MIN`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let keyed = Hmac::new_from_slice(bytes).expect("a key of HMAC may have any length");
        (SECRET_BYTES_MIN <= bytes.len()).then_some(Self(keyed))
    }
}

/// The ends of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The core that connects: it streams.
    Primary,
    /// The core that has accepted the connection: it has copies.
    Copy,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Primary => Self::Copy,
            Self::Copy => Self::Primary,
        }
    }
}

/// Why a peer is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Distrust {
    /// It has another secret, or none.
    WrongProof,
    /// It says something else first, or too much.
    OutOfTurn,
    /// It is not the core that was connected to.
    OtherCore,
    /// It has sent this end's own number: it only repeats what it hears.
    Echo,
}

/// The next step after a message of the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Send this proof, and go on.
    Prove([u8; 32]),
    /// The peer is this core, and belongs to the cluster.
    Trusted(CoreId),
}

/// One end of the proof.
#[derive(Debug)]
pub struct Handshake {
    secret: Secret,
    role: Role,
    me: CoreId,
    nonce: [u8; 32],
    /// The core that was connected to; the end that accepts does not know yet.
    expected: Option<CoreId>,
    /// The peer's number and name, once it has sent them.
    peer: Option<([u8; 32], CoreId)>,
}

impl Handshake {
    /// Begins. `nonce`: drawn at random for this connection, from the operating system. `expected`: the core that was connected to.
    pub fn new(secret: &Secret, role: Role, me: &CoreId, nonce: [u8; 32], expected: Option<CoreId>) -> Self {
        Self { secret: secret.clone(), role, me: me.clone(), nonce, expected, peer: None }
    }

    /// Returns the message to be sent first.
    pub fn challenge(&self) -> Message<'_> {
        Message::Challenge { nonce: self.nonce, server: &self.me.server, core: self.me.core }
    }

    /// Takes a message of the peer.
    ///
    /// # Errors
    /// [`Distrust`]. The connection is to be closed without a word.
    pub fn receive(&mut self, message: &Message<'_>) -> Result<Progress, Distrust> {
        match (message, &self.peer) {
            (Message::Challenge { nonce, server, core }, None) => {
                let peer = CoreId::new(server, *core);
                if self.expected.as_ref().is_some_and(|expected| *expected != peer) {
                    return Err(Distrust::OtherCore);
                }
                if *nonce == self.nonce {
                    return Err(Distrust::Echo);
                }
                self.peer = Some((*nonce, peer));
                let keyed = self.keyed(self.role).ok_or(Distrust::OutOfTurn)?;
                Ok(Progress::Prove(keyed.finalize().into_bytes().into()))
            }
            (Message::Proof(proof), Some((_, peer))) => {
                let keyed = self.keyed(self.role.other()).ok_or(Distrust::OutOfTurn)?;
                // Compares in constant time.
                keyed.verify_slice(proof).map_err(|_| Distrust::WrongProof)?;
                Ok(Progress::Trusted(peer.clone()))
            }
            _ => Err(Distrust::OutOfTurn),
        }
    }

    /// Returns the code of the proof that the end of this role gives, once the peer is known.
    fn keyed(&self, prover: Role) -> Option<Hmac<Sha256>> {
        let (nonce, peer) = self.peer.as_ref()?;
        let (mine, theirs) = ((&self.nonce, &self.me), (nonce, peer));
        let (primary, copy) = if self.role == Role::Primary { (mine, theirs) } else { (theirs, mine) };
        let mut keyed = self.secret.0.clone();
        keyed.update(b"trine link ");
        keyed.update(&[PROTOCOL, prover as u8]);
        for (nonce, core) in [primary, copy] {
            keyed.update(nonce);
            // Every part has a length of its own: no two pairs of names give the same bytes.
            keyed.update(&(core.server.len() as u64).to_le_bytes());
            keyed.update(core.server.as_bytes());
            keyed.update(&core.core.to_le_bytes());
        }
        Some(keyed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    fn ends(primary: &str, copy: &str) -> (Handshake, Handshake) {
        let (one, two) = (CoreId::new("one", 0), CoreId::new("two", 3));
        (
            Handshake::new(&secret(primary), Role::Primary, &one, [1; 32], Some(two.clone())),
            Handshake::new(&secret(copy), Role::Copy, &two, [2; 32], None),
        )
    }

    fn proof(end: &mut Handshake, challenge: &Message<'_>) -> [u8; 32] {
        match end.receive(challenge) {
            Ok(Progress::Prove(proof)) => proof,
            other => panic!("{other:?}"),
        }
    }

    /// Two ends with the same secret trust each other, by name.
    #[test]
    fn both_ends_prove_themselves() {
        let (mut primary, mut copy) = ends("a secret of a cluster", "a secret of a cluster");
        let (mine, theirs) = (primary.nonce, copy.nonce);
        let to_copy = proof(&mut primary, &Message::Challenge { nonce: theirs, server: "two", core: 3 });
        let to_primary = proof(&mut copy, &Message::Challenge { nonce: mine, server: "one", core: 0 });
        assert_eq!(copy.receive(&Message::Proof(to_copy)), Ok(Progress::Trusted(CoreId::new("one", 0))));
        assert_eq!(primary.receive(&Message::Proof(to_primary)), Ok(Progress::Trusted(CoreId::new("two", 3))));
    }

    /// A peer that has another secret, sends a proof back to its maker, says a name that it did not prove, or speaks out of turn is refused.
    #[test]
    fn strangers_are_refused() {
        let (mut primary, mut copy) = ends("a secret of a cluster", "another cluster's secret");
        let to_copy = proof(&mut primary, &Message::Challenge { nonce: [2; 32], server: "two", core: 3 });
        assert_eq!(copy.receive(&Message::Proof(to_copy)), Err(Distrust::OutOfTurn));
        proof(&mut copy, &Message::Challenge { nonce: [1; 32], server: "one", core: 0 });
        assert_eq!(copy.receive(&Message::Proof(to_copy)), Err(Distrust::WrongProof));
        assert_eq!(primary.receive(&Message::Proof(to_copy)), Err(Distrust::WrongProof), "its own proof, reflected");
        let (mut primary, mut copy) = ends("a secret of a cluster", "a secret of a cluster");
        assert_eq!(
            primary.receive(&Message::Challenge { nonce: [1; 32], server: "two", core: 3 }),
            Err(Distrust::Echo)
        );
        let other = Message::Challenge { nonce: [2; 32], server: "three", core: 3 };
        assert_eq!(primary.receive(&other), Err(Distrust::OtherCore));
        let to_copy = proof(&mut primary, &Message::Challenge { nonce: [2; 32], server: "two", core: 3 });
        proof(&mut copy, &Message::Challenge { nonce: [1; 32], server: "one", core: 1 });
        assert_eq!(copy.receive(&Message::Proof(to_copy)), Err(Distrust::WrongProof), "another core's name");
    }

    /// A secret that can be found by trying is none.
    #[test]
    fn a_short_secret_is_refused() {
        assert!(Secret::new(b"0123456789abcde").is_none());
        assert!(Secret::new(b"0123456789abcdef").is_some());
    }
}
