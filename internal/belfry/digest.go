package belfry

import "time"

// Bundling says how something waits to be told together with other things.
type Bundling struct {
	// Key is what it shares a message with, of one person (or address) and
	// channel.
	Key       string
	Frequency Frequency // in full: with the person's settings and the defaults
	Held      bool      // by quiet hours only: told alone it is told as ever
	// Due is when the message goes out. Where the last one counts, it goes at
	// Early when none went since Since, and else at Due, or Wait after the last.
	Due          time.Time
	Early, Since time.Time
	Wait         time.Duration
}

// Counts reports whether it matters when the last message went.
func (b *Bundling) Counts() bool { return !b.Since.IsZero() }

// DueAfter is when the message goes out, the last one having gone at a time;
// zero = there was none.
func (b *Bundling) DueAfter(last time.Time) time.Time {
	switch {
	case !b.Counts():
		return b.Due
	case last.Before(b.Since):
		return b.Early
	case !b.Due.IsZero():
		return b.Due
	}
	return last.Add(b.Wait)
}

// Least is the earliest that DueAfter can be.
func (b *Bundling) Least() time.Time {
	if b.Counts() {
		return b.Early
	}
	return b.Due
}

// BundleState is how far a digest is; the numbers are stored, never reorder
// them.
type BundleState int8

// States of a bundle. What is sealed has its items and its message for good.
const (
	BundleOpen   BundleState = 0 // takes items
	BundleSealed BundleState = 1 // is a delivery
	BundleSent   BundleState = 2
	BundleOver   BundleState = 3 // failed, cancelled or had nothing to say
)

var bundleStates = [...]string{"open", "sealed", "sent", "over"}

// String is the state's name in the API.
func (s BundleState) String() string {
	if s < 0 || int(s) >= len(bundleStates) {
		return "unknown"
	}
	return bundleStates[s]
}

// MarshalText gives the state's name.
func (s BundleState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name.
func (s *BundleState) UnmarshalText(text []byte) error {
	for i, name := range bundleStates {
		if name == string(text) {
			*s = BundleState(i)
			return nil
		}
	}
	return Errorf(Invalid, "there is no state %q", text)
}

// BundlePrefix begins ids of bundles.
const BundlePrefix = "bnd_"

// Bundle is a digest: what gathers for one person on one channel.
type Bundle struct {
	Tenant      string
	ID          string // bnd_...
	Principal   string // empty for a bare address
	Channel     string
	Address     string // where it would go as of its first item; it goes to what is good when it is sealed
	Destination string
	Shard       int
	Key         string
	Frequency   Frequency
	Held        bool
	Counts      bool // when it goes decides when the next one does
	Locale      string
	Due         time.Time
	State       BundleState
	Opened      time.Time
	Sealed      time.Time
	Ended       time.Time
	Message     string  // the delivery it became
	Because     *Reason // why it is over; of one that is open, why it waits longer or goes now
	Items       int     // how many; where it was counted
}

// Asked reports whether somebody said that it goes out now.
func (b *Bundle) Asked() bool { return b.Because != nil && b.Because.Code == SentNow }

// BundleItem is something to be told in a bundle.
type BundleItem struct {
	Bundle       string
	ID           string // DeliveryID of the event, as if it were told alone
	EventID      string
	Run          int
	Subscription string
	Template     string
	State        State // Scheduled, or how it ended before the message did
	Because      []Reason
}

// Seal ends the gathering of a bundle that is open: it becomes a message, or is
// over, or goes on until another time.
type Seal struct {
	Tenant, Bundle string
	At             time.Time
	Message        *Delivery // the message, with the id it keeps
	Drop           *Reason   // why there is none, or why it waits
	Until          time.Time // not now: due again then
	Seen           int       // of how many items that was decided, when their number matters; 0 = it does not
}

// DigestSend makes a digest that gathers due at a time.
type DigestSend struct {
	ID      string
	Due     time.Time
	Because Reason
}

// ItemDrop says that an item was left out of its digest as it was sent.
type ItemDrop struct {
	ID      string
	Because Reason
}

// Look says that something changed that decides how and when digests that
// gather are told: those of a person, or with things of a subscription, or of
// an event type, or all there are.
type Look struct {
	Tenant, What, Item string
	Shard              int
	Version            int64 // of the last change
	// One at what is not a person's goes through all digests: through which it has
	// been, up to After, and with which it ends, Until.
	After, Until string
}

// What a Look is at.
const (
	LookPerson       = "person" // or a bare address: a destination
	LookSubscription = "subscription"
	LookType         = "type"
	LookAll          = "all"
)

// Regather is what becomes of items of a bundle that gathers, by what holds now.
type Regather struct {
	Tenant, Bundle string
	Slot           *Delivery // whose Principal, Address, Channel and Digest name the bundle's place
	Seen           int       // how many items it, or the part, had that wait
	At             time.Time
	Moves          []ItemMove

	// One of very many items is gone through part by part: this is of those with
	// ids after After and up to To, "" = from the first, to the last.
	After, To string
	// Of the last part: when what stays goes out, by all parts, and how many items
	// those saw that stay. nil = as before.
	Stays *Bundling
	Waits int
}

// InPart reports whether it is of a part of the bundle's items.
func (r *Regather) InPart() bool { return r.After != "" || r.To != "" }

// Stay reports whether the item waits on in its place.
func (r *Regather) Stay(m *ItemMove) bool {
	return m.To != nil && m.To.ID == m.Item && m.To.Digest != nil && m.To.Digest.Key == r.Slot.Digest.Key
}

// ItemMove is what becomes of an item.
type ItemMove struct {
	Item string
	// To is where it waits from now on, by To.Digest, or is told, in the inbox.
	// When its ID is not Item, it goes by another channel: then the item is left
	// out where it was, for Because. nil = it is left out.
	To      *Delivery
	Because Reason
}
