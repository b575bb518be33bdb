package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/store"
)

// Roles says how the resolution of roles is measured: a tree of Objects, each
// with ten children until there are enough, with Grants of each to People.
type Roles struct {
	Objects, Grants, People int
	Events                  int // of one measurement
	Edits                   int
}

// RolesReport is what a role rule costs an event, and how soon an edit of grants
// counts.
type RolesReport struct {
	Cached  float64 `json:"cached_us"`   // of processor time: events in one part of the tree that was seen before
	Any     float64 `json:"any_us"`      // events anywhere in the tree: what the caches do not hold is read
	Told    float64 `json:"recipients"`  // of an event
	Visible float64 `json:"visible_ms"`  // from the request that edits grants until an event is told to who has the role now: the longest
	Objects int     `json:"objects"`     // of the tree
	Grants  int     `json:"grants"`      // on all of them
	People  int     `json:"people"`      // who hold them
	Parts   int     `json:"cached_part"` // objects that the events counted as cached are at
}

// roleOf is the role of the k-th grant on an object.
func roleOf(k int) string { return []string{"teacher", "student"}[k%2] }

func leaf(i int) string { return "node/" + strconv.Itoa(i) }

// roles measures a rule that names whoever has a role on an event's object or
// above it.
func (r *run) roles(ctx context.Context) error {
	pl, err := r.places.next(ctx)
	if err != nil {
		return err
	}
	defer r.places.empty(pl)
	n := r.Size.Roles
	out := RolesReport{Objects: n.Objects, Grants: n.Objects * n.Grants, People: n.People, Parts: n.Objects / 10}
	if err := r.resolving(ctx, &pl, n, &out); err != nil {
		return err
	}
	err = r.servingAt(ctx, pl.config(r.key), Parts{}, func(ctx context.Context, rig *rig) error {
		r.progress.step("%d edits", n.Edits)
		out.Visible, err = rig.edits(ctx, n)
		return err
	})
	r.report.Roles = &out
	return err
}

// resolving fills the store and measures on it.
func (r *run) resolving(ctx context.Context, pl *place, n Roles, out *RolesReport) error {
	at := pl.url
	if at == "" {
		at = "sqlite:" + pl.dir
	}
	db, err := store.Open(ctx, store.Options{URL: at, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := r.plant(ctx, db, n); err != nil {
		return err
	}
	view, err := directory.New(directory.Options{Store: db}).At(ctx, belfry.DefaultTenant, 0)
	if err != nil {
		return err
	}
	match := belfry.Match{Subscription: &belfry.Subscription{ID: "sub_1", Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{roleOf(0)}}}}}}
	now, told := time.Now(), 0
	measure := func(what string, events int, object func(i int) int) (float64, error) {
		r.progress.step("%s", what)
		told = 0
		worked := processorTime()
		for i := range events {
			e := &belfry.Accepted{Tenant: belfry.DefaultTenant, Event: &belfry.Event{Type: "bench.roles", Object: leaf(object(i))}}
			page, err := resolve.Page(view, e, []belfry.Match{match}, belfry.EventType{}, now, "", 0)
			if err != nil {
				return 0, err
			}
			if !page.Last || len(page.Recipients) == 0 {
				return 0, fmt.Errorf("the event at %s has %d recipients and is not resolved", e.Event.Object, len(page.Recipients))
			}
			told += len(page.Recipients)
		}
		return rounded(micros(processorTime()-worked) / float64(events)), nil
	}
	// The children of one object below the root and all below them; strides that
	// share no factor with the sizes visit every object once.
	part := func(i int) int { return n.Objects - 1 - i*7919%out.Parts }
	if _, err = measure("filling the caches", out.Parts, part); err != nil {
		return err
	}
	if out.Cached, err = measure("cached", n.Events, part); err != nil {
		return err
	}
	out.Told = rounded(float64(told) / float64(n.Events))
	out.Any, err = measure("anywhere", n.Events, func(i int) int { return i * 7919 % n.Objects })
	return err
}

// plant stores the tree, the people and the grants.
func (r *run) plant(ctx context.Context, db *store.DB, n Roles) error {
	const chunk = 5000
	for from := 0; from < n.People; from += chunk {
		ch := belfry.Changes{Tenant: belfry.DefaultTenant}
		for i := from; i < min(from+chunk, n.People); i++ {
			ch.Users = append(ch.Users, belfry.User{ID: crowdUser(i), Name: "Bench " + strconv.Itoa(i), State: belfry.UserActive})
		}
		if _, err := db.Apply(ctx, ch); err != nil {
			return err
		}
	}
	for from := 0; from < n.Objects; from += chunk {
		r.progress.step("%s of %s objects", thousands(from), thousands(n.Objects))
		ch := belfry.Changes{Tenant: belfry.DefaultTenant}
		for i := from; i < min(from+chunk, n.Objects); i++ {
			o := belfry.Object{ID: leaf(i), Type: "node", Title: "Node " + strconv.Itoa(i)}
			if i >= 10 {
				o.Parent = leaf(i / 10)
			}
			ch.Objects = append(ch.Objects, o)
			set := belfry.GrantSet{Object: o.ID, Origin: "bench"}
			for k := range n.Grants {
				set.Grants = append(set.Grants, belfry.Grant{Principal: crowdUser((i*n.Grants + k) * 31 % n.People), Role: roleOf(k)})
			}
			ch.Grants = append(ch.Grants, set)
		}
		if _, err := db.Apply(ctx, ch); err != nil {
			return err
		}
	}
	return nil
}

// edits gives somebody a role, tells an event and waits until she has it in her
// inbox, takes the role away and tells another one. It gives the longest time in
// milliseconds from a request to what it changed.
func (r *rig) edits(ctx context.Context, n Roles) (longest float64, err error) {
	rule := map[string]any{"role": map[string]any{"roles": []string{roleOf(0)}}}
	if err := r.subscribe(ctx, "bench.roles", map[string]any{"channels": []string{"inbox"}}, rule); err != nil {
		return 0, err
	}
	var answer bytes.Buffer
	tell := func(object string) error {
		body := fmt.Appendf(nil, `{"source":"/bench","type":"bench.roles","object":%q,"data":{"seq":%d}}`, object, r.seq.Add(1))
		if err := r.publish(ctx, body, &answer); err != nil {
			return err
		}
		return r.planned(ctx, answer.Bytes())
	}
	for i := range n.Edits {
		object, who := leaf(n.Objects-1-i*97%(n.Objects/10)), "user/new"+strconv.Itoa(i)
		if err := r.api.Call(ctx, http.MethodPut, "/v1/users/"+url.PathEscape(who), map[string]any{"name": who, "state": "active"}, nil); err != nil {
			return 0, err
		}
		if err := tell(object); err != nil { // what is known of the object is in the caches
			return 0, err
		}
		for _, has := range []bool{true, false} {
			grants := []map[string]any{}
			if has {
				grants = append(grants, map[string]any{"principal": who, "role": roleOf(0)})
			}
			start := time.Now()
			if err := r.api.Call(ctx, http.MethodPut, "/v1/objects/"+url.PathEscape(object)+"/grants", grants, nil); err != nil {
				return 0, err
			}
			if err := tell(object); err != nil {
				return 0, err
			}
			longest = max(longest, milliseconds(time.Since(start)))
			var counts struct{ Unread int }
			if err := r.api.Call(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(who)+"/inbox/counts", nil, &counts); err != nil {
				return 0, err
			}
			if counts.Unread != 1 { // the first event is told, the second is not
				return 0, fmt.Errorf("%s, who had the role for one event, has %d entries", who, counts.Unread)
			}
		}
	}
	return rounded(longest), nil
}
