// Package auth answers one question about a request: who is asking? It knows
// application keys (Authorization: Bearer bfy_<id>_<secret>), issues, lists and
// revokes them, and accepts the root key of the configuration from the first
// start on.
//
// It promises that a key's secret is never stored, only its SHA-256 (the secret
// holds 256 random bits, so a slow hash would add cost and no safety); that
// comparing takes the same time for right and wrong secrets and for known and
// unknown keys; that a revoked key is refused from the moment Revoke returns on
// this node, and on any other node as soon as the change log reaches it
// (Forget) or ProvenFor has passed, whichever is first; and that an address
// that keeps presenting wrong keys is told to wait, without locking out keys
// that were proven from anywhere shortly before.
//
// It refuses to say which of "no such key", "revoked" and "wrong secret" holds,
// to issue a key with more permissions than its issuer has, and to let a key of
// one tenant name another one. What a caller may do with a thing is decided by
// the room that owns the thing, with Identity.May.
//
// Tests use any Store of documents (the real one on SQLite) and pass times.
package auth
