package manage

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/words"
)

// Bounds of saved filters.
const (
	maxFilters = 20     // named by one subscription
	maxNaming  = 10_000 // subscriptions that name one
)

// CloudEventsFilter writes a filter in the dialects of CloudEvents
// Subscriptions as CEL, which is what is stored.
func CloudEventsFilter(raw json.RawMessage) (string, error) { return expr.FromDialects(raw) }

// Filters lists saved filters by name.
func (m *Manager) Filters(ctx context.Context, tenant, after string, limit int) ([]belfry.SavedFilter, string, error) {
	out, next, err := pageOf[belfry.SavedFilter](ctx, m, tenant, belfry.KindFilter, "filter", after, limit)
	for i := range out {
		inWords(&out[i])
	}
	return out, next, err
}

// Filter is one of them.
func (m *Manager) Filter(ctx context.Context, tenant, name string) (belfry.SavedFilter, int64, error) {
	var s belfry.SavedFilter
	version, err := m.readDocument(ctx, tenant, belfry.KindFilter, name, "filter", &s)
	inWords(&s)
	return s, version, err
}

func inWords(s *belfry.SavedFilter) {
	s.Readable = ""
	if s.Filter != "" {
		s.Readable, _ = expr.Readable(s.Filter, words.For(), nil) // it compiled when it was saved
	}
}

// PutFilter stores a filter, and with it every subscription that names it.
func (m *Manager) PutFilter(ctx context.Context, by By, s belfry.SavedFilter, match Expect) (stored belfry.SavedFilter, version int64, created bool, err error) {
	f := &faults{}
	f.name("/name", s.Name)
	f.line("/title", s.Title, maxName)
	f.line("/owner", s.Owner, maxID)
	checkExpression(f, "/filter", s.Filter)
	if err := f.err(); err != nil {
		return s, 0, false, err
	}
	s.Readable = ""
	body, err := json.Marshal(s)
	if err != nil {
		return s, 0, false, err
	}
	defer m.lock(by.Tenant)()
	before, err := m.version(ctx, by.Tenant, belfry.KindFilter, s.Name)
	if err != nil {
		return s, 0, false, err
	}
	version, err = retry(match, func() (int64, error) {
		ch := m.change(by, "filter.put", s.Name)
		ch.Documents = []belfry.Document{{Kind: belfry.KindFilter, ID: s.Name, Body: body}}
		err := m.naming(ctx, by.Tenant, s.Name, &ch, func(sub *belfry.Subscription) error {
			if sub.Owner != s.Owner && s.Owner != "" {
				return belfry.Faults([]belfry.Field{{Pointer: "/owner", Message: "subscription " + sub.ID + " of another owner names it: leave the owner out, or take it off there first"}})
			}
			f, combined := &faults{}, sub.Combined
			m.combine(ctx, f, by.Tenant, sub, &s)
			if f.err() != nil && sub.State == belfry.SubscriptionPaused {
				sub.Combined = combined // looked at again when it is resumed
				return nil
			}
			if f.err() != nil {
				return belfry.Faults([]belfry.Field{{Pointer: "/filter", Message: "does not go together with the others of subscription " + sub.ID + ": " + f.list[0].Message}})
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		return m.apply(ctx, ch, belfry.KindFilter, s.Name, match)
	})
	inWords(&s)
	return s, version, before == 0, err
}

// DeleteFilter drops a filter and pauses every subscription that names it: one
// without its filter would be told of more than was ever meant.
func (m *Manager) DeleteFilter(ctx context.Context, by By, name string, match Expect) error {
	defer m.lock(by.Tenant)()
	_, err := retry(match, func() (int64, error) {
		if _, _, err := m.Filter(ctx, by.Tenant, name); err != nil {
			return 0, err
		}
		ch := m.change(by, "filter.delete", name)
		ch.DropDocuments = []belfry.DocumentKey{{Kind: belfry.KindFilter, ID: name}}
		err := m.naming(ctx, by.Tenant, name, &ch, func(sub *belfry.Subscription) error {
			if sub.State == belfry.SubscriptionActive {
				sub.State, sub.Because = belfry.SubscriptionPaused, "its saved filter "+name+" was deleted by "+by.Who
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		return m.apply(ctx, ch, belfry.KindFilter, name, match)
	})
	return err
}

// naming edits every subscription that has not ended and names a filter, and
// adds what changed to ch, bound to the versions that were read.
func (m *Manager) naming(ctx context.Context, tenant, name string, ch *belfry.Changes, edit func(*belfry.Subscription) error) error {
	const page = 1000
	for after := ""; ; {
		subs, err := m.store.Subscriptions(ctx, tenant, after, page)
		if err != nil {
			return err
		}
		for i := range subs {
			sub := &subs[i]
			if sub.State == belfry.SubscriptionEnded || !slices.Contains(sub.Filters, name) {
				continue
			}
			if len(ch.Subscriptions) == maxNaming {
				return belfry.Errorf(belfry.TooLarge, "more than %d subscriptions name filter %s: make another filter and move them there in parts", maxNaming, name)
			}
			version, combined, state := sub.Version, sub.Combined, sub.State
			if err := edit(sub); err != nil {
				return err
			}
			if sub.Combined != combined || sub.State != state {
				ch.Subscriptions = append(ch.Subscriptions, *sub)
				ch.IfMatch = append(ch.IfMatch, belfry.Expectation{Kind: belfry.KindSubscription, Key: sub.ID, Version: version})
			}
		}
		if len(subs) < page {
			return nil
		}
		after = subs[len(subs)-1].ID
	}
}

// combine puts the filters a subscription names and its own together. now,
// when it is set, stands for the saved filter of its name.
func (m *Manager) combine(ctx context.Context, f *faults, tenant string, s *belfry.Subscription, now *belfry.SavedFilter) {
	s.Combined = ""
	if len(s.Filters) == 0 {
		return
	}
	if len(s.Filters) > maxFilters {
		f.add("/filters", "has %d entries: at most %d are allowed", len(s.Filters), maxFilters)
		return
	}
	parts := make([]string, 0, len(s.Filters)+1)
	for i, name := range s.Filters {
		p := "/filters/" + strconv.Itoa(i)
		saved := now
		if saved == nil || saved.Name != name {
			got, _, err := m.Filter(ctx, tenant, name)
			if err != nil {
				f.add(p, "%s: save it with PUT /v1/filters", err)
				continue
			}
			saved = &got
		}
		if saved.Owner != "" && saved.Owner != s.Owner {
			f.add(p, "filter %s belongs to somebody else", name)
		}
		parts = append(parts, saved.Filter)
	}
	if s.Filter != "" {
		parts = append(parts, s.Filter)
	}
	// Each on a line of its own: it may end in a comment.
	combined := "(" + strings.Join(parts, "\n) && (") + "\n)"
	if _, err := expr.Compile(combined); err != nil && f.err() == nil {
		f.add("/filters", "and filter do not go together: %s", err)
		return
	}
	s.Combined = combined
}

// SayFilter says a saved filter in a reader's language.
func SayFilter(f *belfry.SavedFilter, p *words.Printer) {
	if f.Readable != "" {
		f.Readable, _ = expr.Readable(f.Filter, p, nil) // it compiled when it was saved
	}
}
