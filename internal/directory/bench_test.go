package directory

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
)

// campus is a store of 100,000 objects in a tree of depth six with ten grants
// on each, made when asked for: the benchmark is of the caches.
type campus struct{ Store }

const campusObjects = 100_000

func (campus) Version(context.Context, string) (int64, error) { return 1, nil }

func (campus) Objects(_ context.Context, _ string, ids []string) (map[string]belfry.Object, error) {
	out := map[string]belfry.Object{}
	for _, id := range ids {
		var n int
		if _, err := fmt.Sscanf(id, "o%d", &n); err != nil {
			continue
		}
		o := belfry.Object{ID: id, Type: "t"}
		if n >= 10 {
			o.Parent = fmt.Sprintf("o%d", n/10)
		}
		out[id] = o
	}
	return out, nil
}

func (campus) GrantsOn(_ context.Context, _ string, objects []string) (map[string][]belfry.Grant, error) {
	out := map[string][]belfry.Grant{}
	for _, o := range objects {
		for i := range 10 {
			out[o] = append(out[o], belfry.Grant{Principal: fmt.Sprintf("user/%s/%d", o, i), Role: []string{"teacher", "student"}[i%2], Object: o})
		}
	}
	return out, nil
}

func (campus) Groups(context.Context, string, []string) (map[string]belfry.Group, error) {
	return nil, nil
}

func (campus) Persons(_ context.Context, _ string, ids []string) (map[string]*belfry.Person, error) {
	out := map[string]*belfry.Person{}
	for _, id := range ids {
		out[id] = &belfry.Person{User: belfry.User{ID: id, State: belfry.UserActive}}
	}
	return out, nil
}

func (campus) Members(context.Context, string, string, string, int) ([]belfry.Member, error) {
	return nil, nil
}

// Who holds a merged role on one of 100,000 objects with 1,000,000 grants in
// all, everything cached: the view's part, and the whole resolution.
func BenchmarkRolesOn100000Objects(b *testing.B) {
	d := New(Options{Store: campus{}, Objects: 2 * campusObjects, Grants: 12 * campusObjects, Persons: 20_000})
	ctx := context.Background()
	v, err := d.At(ctx, "t", 0)
	if err != nil {
		b.Fatal(err)
	}
	look := func(object string) int {
		chain, err := v.Ancestors(object)
		if err != nil {
			b.Fatal(err)
		}
		ids := make([]string, len(chain))
		for i := range chain {
			ids[i] = chain[i].ID
		}
		grants, err := v.Grants(ids)
		if err != nil {
			b.Fatal(err)
		}
		return len(grants)
	}
	for n := 1; n < campusObjects; n++ {
		look(fmt.Sprintf("o%d", n))
	}
	b.Run("view", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			if look(fmt.Sprintf("o%d", 10_000+n%1000)) != 6 {
				b.Fatal("grants are missing")
			}
		}
	})
	b.Run("resolve", func(b *testing.B) {
		ms := []belfry.Match{{Subscription: &belfry.Subscription{ID: "s", Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"teacher"}}}}}}}
		now := time.Now()
		for n := 0; b.Loop(); n++ {
			e := &belfry.Accepted{Event: &belfry.Event{Type: "x", Object: fmt.Sprintf("o%d", 10_000+n%100)}}
			p, err := resolve.Page(v, e, ms, belfry.EventType{}, now, "", 0)
			if err != nil || len(p.Recipients) != 30 {
				b.Fatal(len(p.Recipients), err)
			}
		}
	})
}
