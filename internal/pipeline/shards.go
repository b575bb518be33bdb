package pipeline

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Shards says what this process works on, where several share a database.
type Shards interface {
	// Mine are the shards of a kind of lease that this process has; nil means
	// all there are, and that nobody else will ask for one.
	Mine(kind string) []int
	// Has reports whether this process has a shard now.
	Has(kind string, shard int) bool
	// Shared reports whether others work with the database.
	Shared() bool
	// MaySend reports whether what this process has is its own for long enough
	// to begin a send now.
	MaySend() bool
}

// Peers are the processes that share the database. They are told what was
// committed here and may be theirs to work on. What they are told may be lost:
// they look by themselves, less often.
type Peers interface{ Tell(belfry.Wake) }

// Alone are the Shards of a process that shares its database with nobody, and
// its peers.
type Alone struct{}

// Mine is nil.
func (Alone) Mine(string) []int { return nil }

// Has is true.
func (Alone) Has(string, int) bool { return true }

// Shared is false.
func (Alone) Shared() bool { return false }

// MaySend is true.
func (Alone) MaySend() bool { return true }

// Tell has nobody to tell.
func (Alone) Tell(belfry.Wake) {}

// In brings what an event or a delivery is to be decided with up to a version.
type In interface {
	// Reach returns when every edit of the tenant up to version is in force in
	// this process.
	Reach(ctx context.Context, tenant string, version int64) error
	// Reached is a version up to which every edit is in force.
	Reached(tenant string) int64
}

// A process that shares its database looks by itself, for what it was not told
// of: often for what was committed lately, now and then for what took as long
// as a commit may take, with room for clocks that differ.
const (
	lately    = 10 * time.Second
	atLongest = 90 * time.Second
	longLook  = time.Minute
)

// inboxMark is a place in a Wake's Inboxes for a person's inbox.
func inboxMark(tenant, principal string) (index int, bit byte) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tenant))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(principal))
	n := h.Sum32() % (8 * belfry.WakeInboxes)
	return int(n / 8), 1 << (n % 8)
}
