package manage

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Wish is what somebody wants to hear of: events of types at an object and
// below it, or of one record alone.
type Wish struct {
	Types       []string          `json:"types" doc:"Declared event types"`
	Object      string            `json:"object,omitempty" doc:"The object or record; empty = everywhere"`
	Applies     string            `json:"applies,omitempty" enum:"subtree,self,children"`
	ObjectTypes []string          `json:"object_types,omitempty"`
	Filter      string            `json:"filter,omitempty" doc:"CEL"`
	Channels    []string          `json:"channels,omitempty" doc:"Empty = her own choice"`
	Frequency   *belfry.Frequency `json:"frequency,omitempty"`
}

// Subscribed is what somebody joined by a wish.
type Subscribed struct {
	Subscription Stored        `json:"subscription"`
	Member       belfry.Member `json:"member"`
	Created      bool          `json:"created" doc:"Nobody had subscribed to the same before"`
}

// Subscribe makes a user a member of the subscription of her wish. Who wishes
// for the same shares it: there is one for each set of criteria, known by them.
func (m *Manager) Subscribe(ctx context.Context, by By, user string, w Wish) (Subscribed, error) {
	f := &faults{}
	f.key("/user", user, maxID)
	m.checkChannels(f, by.Tenant, "/channels", w.Channels)
	f.frequency("/frequency", w.Frequency)
	s, err := m.wishedFor(ctx, by.Tenant, f, &w)
	if err != nil {
		return Subscribed{}, err
	}
	if err := m.mayJoin(ctx, by.Tenant, &s.Joining, user, s.ScopeObject(), "what happens there"); err != nil {
		return Subscribed{}, err
	}
	if err := m.maySubscribe(ctx, by.Tenant, &s, user, s.ScopeObject()); err != nil {
		return Subscribed{}, err
	}
	return retry(nil, func() (Subscribed, error) {
		out := Subscribed{Member: belfry.Member{Subscription: s.ID, Principal: user, Channels: w.Channels, Frequency: w.Frequency, Since: m.now()}}
		have, found, err := m.store.Subscription(ctx, by.Tenant, s.ID)
		if err != nil {
			return out, err
		}
		if found && have.State == belfry.SubscriptionEnded {
			return out, belfry.Errorf(belfry.Conflict, "the subscription of this wish, %s, was ended: %s", s.ID, have.Because)
		}
		if !found {
			have = s
		}
		ch, err := m.joins(ctx, by, &have, out.Member, "members.join")
		if err != nil {
			return out, err
		}
		if out.Created = !found; !found {
			ch.Subscriptions = []belfry.Subscription{s}
			ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindSubscription, Key: s.ID}}
		}
		version, err := m.store.Apply(ctx, ch)
		if err != nil {
			return out, err
		}
		if !found {
			have.Version = version
		}
		out.Subscription, err = m.describe(ctx, by.Tenant, have)
		return out, err
	})
}

// wishedFor is the subscription of a wish, as whoever wishes the same shares it;
// f are faults of the wish that were found before.
func (m *Manager) wishedFor(ctx context.Context, tenant string, f *faults, w *Wish) (belfry.Subscription, error) {
	if len(w.Types) == 0 {
		f.add("/types", "names the event types wanted: GET /v1/generators says what can be subscribed to here")
	}
	for i, t := range w.Types {
		if strings.HasSuffix(t, "*") {
			f.add("/types/"+strconv.Itoa(i), "is a prefix: name the types one by one")
		}
	}
	if err := f.err(); err != nil {
		return belfry.Subscription{}, err
	}
	s := belfry.Subscription{Scope: belfry.Scope{Object: w.Object, Applies: w.Applies}, Types: slices.Compact(slices.Sorted(slices.Values(w.Types))),
		ObjectTypes: slices.Compact(slices.Sorted(slices.Values(w.ObjectTypes))), Filter: strings.TrimSpace(w.Filter),
		Joining: belfry.Joining{Who: belfry.JoinMembers}, State: belfry.SubscriptionActive, Origin: belfry.FromPerson, Created: m.now()}
	if s.Scope.Applies == belfry.AppliesSubtree {
		s.Scope.Applies = ""
	}
	known, err := m.checkSubscription(ctx, tenant, &s)
	if err != nil {
		return s, err
	}
	if s.Title, err = m.wished(ctx, tenant, &s, known); err != nil {
		return s, err
	}
	s.ID = sharedID(&s)
	return s, nil
}

// wished checks that what is wished for is offered, and gives it a title.
func (m *Manager) wished(ctx context.Context, tenant string, s *belfry.Subscription, known *facts) (string, error) {
	f := &faults{}
	var titles []string
	for i, name := range s.Types {
		p := "/types/" + strconv.Itoa(i)
		t, _, err := m.EventType(ctx, tenant, name)
		switch {
		case belfry.KindOf(err) == belfry.NotFound:
			f.add(p, "there is no event type %q", name)
		case err != nil:
			return "", err
		case t.Discovered:
			f.add(p, "was only seen in events, so it is not offered: an administrator declares it first")
		case t.Deprecated:
			f.add(p, "is deprecated: it is not offered any more")
		}
		title := t.Title
		if title == "" {
			title = name
		}
		titles = append(titles, title)
	}
	title := strings.Join(titles, ", ")
	if known.object != nil {
		if at := known.object.Title; at != "" {
			title += ": " + at
		} else {
			title += ": " + known.object.ID
		}
	}
	if r := []rune(title); len(title) > maxName {
		title = string(r[:maxName/4-1]) + "…"
	}
	return title, f.err()
}

// sharedID is the id of the subscription for what a person wishes: the same for
// the same criteria.
func sharedID(s *belfry.Subscription) string {
	text, err := json.Marshal([]any{s.Scope, s.Types, s.ObjectTypes, s.Filter})
	if err != nil {
		panic(err) // texts always marshal
	}
	sum := sha256.Sum256(text)
	return belfry.SubscriptionPrefix + "shared" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))[:26]
}

// Membership is something a user joined.
type Membership struct {
	belfry.Member
	Title   string `json:"title,omitempty"`
	State   string `json:"state" enum:"active,paused,ended" doc:"Of the subscription"`
	Because string `json:"because,omitempty" doc:"Why it is paused or ended"`
	Closed  string `json:"closed,omitempty" doc:"Why she could not join it by herself any more; what she joined stays"`
}

// Memberships lists what a user joined, everywhere, by subscription.
func (m *Manager) Memberships(ctx context.Context, tenant, user, after string, limit int) ([]Membership, string, error) {
	if who, err := m.principals(ctx, tenant, []string{user}); err != nil || !who[user] {
		if err == nil {
			err = notFound("user", user)
		}
		return nil, "", err
	}
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	ms, err := m.store.Memberships(ctx, tenant, user, after, limit)
	if err != nil {
		return nil, "", err
	}
	out := make([]Membership, 0, len(ms))
	for _, mb := range ms {
		sub, _, err := m.store.Subscription(ctx, tenant, mb.Subscription)
		if err != nil {
			return nil, "", err
		}
		ms := Membership{Member: mb, Title: sub.Title, State: sub.State, Because: sub.Because}
		if mb.By == "" && sub.State != belfry.SubscriptionEnded {
			at := mb.Object
			if at == "" {
				at = sub.ScopeObject()
			}
			err := m.mayJoin(ctx, tenant, &sub.Joining, user, at, "it")
			if err == nil {
				err = m.maySubscribe(ctx, tenant, &sub, user, at)
			}
			switch belfry.KindOf(err) {
			case belfry.Forbidden:
				var e *belfry.Error
				errors.As(err, &e)
				ms.Closed = e.Msg
			case belfry.Invalid: // a group, which does nothing by itself
			default:
				if err != nil {
					return nil, "", err
				}
			}
		}
		out = append(out, ms)
	}
	if len(ms) < limit {
		return out, "", nil
	}
	return out, ms[len(ms)-1].Subscription, nil
}
