package resolve

import (
	"fmt"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// indexed is a world whose answers are ready, as those of warm caches are.
type indexed struct {
	*world
	chain  []belfry.Object
	grants map[string]Grants
	groups map[string]Group
}

func (x *indexed) Ancestors(string) ([]belfry.Object, error)            { return x.chain, nil }
func (x *indexed) Grants([]string) (map[string]Grants, error)           { return x.grants, nil }
func (x *indexed) Groups([]string) (map[string]Group, error)            { return x.groups, nil }
func (x *indexed) Members(string, string, int) ([]belfry.Member, error) { return nil, nil }
func (x *indexed) OptOuts(string, string, int) ([]belfry.OptOut, error) { return nil, nil }

func ready(w *world, object string, objects ...string) *indexed {
	x := &indexed{world: w}
	x.chain, _ = w.Ancestors(object)
	x.grants, _ = w.Grants(objects)
	var ids []string
	for id := range w.groups {
		ids = append(ids, id)
	}
	x.groups, _ = w.Groups(ids)
	return x
}

// One event that 100 subscriptions want, ten rules each, 10,000 people: each
// rule names a tenth of them by a group, a role or one by one.
func BenchmarkPage100Subscriptions10Rules10000People(b *testing.B) {
	w := newWorld().object("c", "")
	parts := make([][]string, 10)
	for i := range 10_000 {
		id := fmt.Sprintf("user/%05d", i)
		w.user(id)
		parts[i%10] = append(parts[i%10], id)
	}
	for i, ids := range parts {
		w.group(fmt.Sprintf("g%d", i), ids...)
		w.grant("c", fmt.Sprintf("r%d", i), ids...)
	}
	var ms []belfry.Match
	for s := range 100 {
		sub := belfry.Subscription{ID: fmt.Sprintf("sub_%d", s), Created: noon}
		for i := range 10 {
			switch {
			case i < 5:
				sub.Recipients = append(sub.Recipients, explicit(nil, []string{fmt.Sprintf("g%d", i)}, nil)...)
			case i < 9:
				sub.Recipients = append(sub.Recipients, role("", "", fmt.Sprintf("r%d", i)))
			default:
				sub.Recipients = append(sub.Recipients, explicit(parts[9][:100], nil, nil)...)
			}
		}
		ms = append(ms, match(sub))
	}
	x := ready(w, "c", "c", Root)
	b.ReportAllocs()
	for b.Loop() {
		p, err := Page(x, event("c"), ms, belfry.EventType{}, noon, "", 0)
		if err != nil || !p.Last || len(p.Recipients) != 9100 {
			b.Fatal(len(p.Recipients), err)
		}
	}
}

// The usual event: one subscription, one role rule, twenty people.
func BenchmarkPageSmall(b *testing.B) {
	w := newWorld().object("cat", "").object("course", "cat").object("forum", "course")
	for i := range 20 {
		id := fmt.Sprintf("user/%05d", i)
		w.user(id).grant("course", "teacher", id)
	}
	x := ready(w, "forum", "forum", "course", "cat", Root)
	ms := []belfry.Match{match(belfry.Subscription{Recipients: []belfry.Rule{role("", "", "teacher")}})}
	b.ReportAllocs()
	for b.Loop() {
		if p, err := Page(x, event("forum"), ms, belfry.EventType{}, noon, "", 0); err != nil || len(p.Recipients) != 20 {
			b.Fatal(p, err)
		}
	}
}
