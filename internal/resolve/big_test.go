package resolve

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// forum is a subscription with very many members, made when asked for.
type forum struct {
	*world
	n    int
	most int // members handed out at once
}

func (f *forum) Members(_, after string, limit int) ([]belfry.Member, error) {
	from := 0
	if after != "" {
		from, _ = strconv.Atoi(after[1:])
		from++
	}
	to := min(from+limit, f.n)
	f.most = max(f.most, to-from)
	ms := make([]belfry.Member, 0, max(to-from, 0))
	for i := from; i < to; i++ {
		ms = append(ms, belfry.Member{Subscription: "sub_1", Principal: fmt.Sprintf("u%07d", i)})
	}
	return ms, nil
}

func (f *forum) Persons(ids []string) (map[string]*belfry.Person, error) {
	p := &belfry.Person{User: belfry.User{State: belfry.UserActive}}
	out := make(map[string]*belfry.Person, len(ids))
	for _, id := range ids {
		out[id] = p
	}
	return out, nil
}

func TestManyMembersArePaged(t *testing.T) {
	f := &forum{world: newWorld(), n: 200_000}
	ms := []belfry.Match{match(belfry.Subscription{Notify: []belfry.Notify{{}, {Endpoint: "ep_1"}}})}
	told, pages := 0, 0
	for cursor := ""; ; pages++ {
		p, err := Page(f, event(""), ms, belfry.EventType{}, noon, cursor, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Recipients) > MaxPage {
			t.Fatalf("a page of %d", len(p.Recipients))
		}
		told += len(p.Recipients)
		if p.Last {
			break
		}
		cursor = p.Next
	}
	if told != f.n+1 || pages != f.n/MaxPage || f.most > memberChunk {
		t.Fatalf("told %d in %d full pages, %d members at once", told, pages, f.most)
	}
}
