// Package nodes lets any number of processes work with one database as one
// service. Each is a node with a lease on its life; plan shards, delivery
// shards and source shards are divided among the living ones.
//
// The Keeper of a process renews its lease three times within its length and,
// apart from that, declares dead whose lease has ended, claims its fair share of
// the shards and gives back what it has too much of, busy or not, after its parts
// have stopped working on it. Only the database's clock judges leases; a node counts its own
// from before it asked, on its own monotonic clock, and begins no send in the last
// third. The Wire tells other nodes what was committed and may be theirs.
//
// It promises: a shard is worked on by one node at a time, as the store's fence
// holds also against a node that was halted and wakes up; a dead node's shards
// are taken over within two lengths of a lease; a node that leaves in order
// hands over without a gap and without sending anything twice. Losing every
// word on the Wire only makes things slower.
//
// It refuses to know what is done with a shard.
//
// Tests run keepers in virtual time (testing/synctest) on a table in memory
// that keeps the store's promises; that the store keeps them, and that real
// processes do, is shown in store/storetest and faults.
package nodes
