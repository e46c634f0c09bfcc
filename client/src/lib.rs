//! Clients for Trine and every server that speaks the Redis protocol.
