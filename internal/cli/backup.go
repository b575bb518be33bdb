package cli

import (
	"fmt"
	"time"
)

// BackedUp says what a backup holds; whole is what is printed as JSON.
func BackedUp(out Out, file string, taken time.Time, schema int64, key, configured bool, whole any) error {
	if out.JSON {
		return out.Value(whole)
	}
	with := "with the secret key"
	switch {
	case configured:
		with = "without the secret key, which is in the configuration: keep that, too"
	case !key:
		with = "without a secret key: the server has made none yet"
	}
	return out.Line("%s has the database as it was at %s (schema version %d), %s", file, stamp(taken), schema, with)
}

// Restored says what a restore did.
type Restored struct {
	Database string    `json:"database"`
	Key      string    `json:"key,omitempty"`
	Aside    string    `json:"aside,omitempty"` // folder of what was there before
	Taken    time.Time `json:"taken"`
	Schema   int64     `json:"schema"`
	Program  string    `json:"program"`
	// Held: what was open was cancelled; so many, and so many events are still
	// to be planned.
	Held      bool  `json:"held"`
	Cancelled int64 `json:"cancelled"`
	Unplanned int64 `json:"unplanned"`
	// Sealed are secrets that were tried, Unopened those that no key opens.
	Sealed        int  `json:"-"`
	Unopened      int  `json:"unopened"`
	KeyConfigured bool `json:"-"`
}

// BroughtBack prints it.
func BroughtBack(out Out, r Restored) error {
	if out.JSON {
		return out.Value(r)
	}
	lines := []string{}
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	say("%s is as it was at %s (schema version %d, program %s)", r.Database, stamp(r.Taken), r.Schema, r.Program)
	if r.Aside != "" {
		say("what was there before is in %s", r.Aside)
	}
	switch {
	case r.Unopened > 0 && r.KeyConfigured:
		say("the configured secret_key does not open %d of %d secrets that were tried: put the key of the backup behind it", r.Unopened, r.Sealed)
	case r.Unopened > 0:
		say("%s does not open %d of %d secrets that were tried: put the right key there", r.Key, r.Unopened, r.Sealed)
	case r.Key == "" && !r.KeyConfigured:
		say("the backup has no secret key: set BELFRY_SECRET_KEY to the one the server had")
	}
	for _, line := range lines {
		if err := out.Line("%s", clean(line)); err != nil {
			return err
		}
	}
	if r.Held {
		return HeldBack(out, r.Cancelled, r.Unplanned)
	}
	return out.Line("what was open then is sent when the server starts, also what was sent since; --hold would cancel it")
}

// HeldBack says what was cancelled before a server starts.
func HeldBack(out Out, cancelled, unplanned int64) error {
	if out.JSON {
		return out.Value(map[string]int64{"cancelled": cancelled, "unplanned": unplanned})
	}
	if err := out.Line("%d deliveries that were open are cancelled; belfry deliveries retry --state cancelled sends those you choose", cancelled); err != nil || unplanned == 0 {
		return err
	}
	return out.Line("%d events that were accepted are not planned yet: the server plans them, and their people are told", unplanned)
}
