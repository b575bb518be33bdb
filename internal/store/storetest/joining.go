package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

func testAsks(t *testing.T, place func(testing.TB) string) {
	start := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	db := openAt(t, place(t), func() time.Time { return start })
	ctx := context.Background()
	now := start
	ask := func(who, sub string, kind belfry.AskKind, at time.Time) belfry.Ask {
		return belfry.Ask{Tenant: tenant, ID: fmt.Sprint("ask_", who, sub, at.Unix()), Who: who, Subscription: sub, Object: "forum/3", Kind: kind, By: "ada", Asked: at, Due: at, Until: at.Add(time.Hour)}
	}
	put := func(a belfry.Ask, counts ...belfry.AskCount) {
		t.Helper()
		if err := db.Ask(ctx, a, counts); err != nil {
			t.Fatal(err)
		}
	}
	due := func(at time.Time) (ids []string) {
		t.Helper()
		for _, a := range must[[]belfry.Ask](t)(db.DueAsks(ctx, at, 0, 100)) {
			ids = append(ids, a.Tenant+" "+a.ID)
		}
		return ids
	}
	find := func(a belfry.Ask) (belfry.Ask, bool) {
		t.Helper()
		got, ok, err := db.FindAsk(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		return got, ok
	}
	first := ask("x@example.org", "sub_a", belfry.AskJoin, now)
	put(first)
	if got, ok := find(first); !ok || got != first {
		t.Errorf("%+v, want %+v", got, first)
	}
	// The same again is the first one until that is over.
	put(ask("x@example.org", "sub_a", belfry.AskJoin, now.Add(time.Minute)))
	other := first
	other.Tenant, other.ID = "other", "ask_other"
	put(other)
	same(t, "due", due(now), []string{"default " + first.ID, "other ask_other"})
	same(t, "the second page", must[[]belfry.Ask](t)(db.DueAsks(ctx, now, 1, 1)), []belfry.Ask{other})
	later := ask("x@example.org", "sub_a", belfry.AskJoin, now.Add(2*time.Hour))
	put(later)
	if got, _ := find(first); got.ID != later.ID {
		t.Errorf("an old ask stays: %+v", got)
	}
	if err := db.SettleAsk(ctx, first, true, nil, now); err != nil {
		t.Fatal(err)
	}
	if _, ok := find(first); !ok {
		t.Error("another ask went in the place of an old one")
	}

	// Sent: it is not due, and others for the same recipient are held back.
	now = now.Add(2 * time.Hour)
	mails := belfry.AskCount{Who: "to x@example.org", Span: time.Hour, Most: 2}
	sent := later
	sent.Due, sent.Until = time.Time{}, now.Add(3*time.Hour)
	if err := db.SettleAsk(ctx, sent, false, &mails, now); err != nil {
		t.Fatal(err)
	}
	second := ask("x@example.org", "sub_b", belfry.AskLeave, now)
	put(second)
	standing := func(a belfry.Ask, at time.Time) belfry.AskStanding {
		t.Helper()
		return must[belfry.AskStanding](t)(db.AskStanding(ctx, a, mails, at))
	}
	same(t, "held back", standing(second, now), belfry.AskStanding{Blocked: sent.Until})
	same(t, "not by itself", standing(sent, now), belfry.AskStanding{})
	same(t, "nor for ever", standing(second, sent.Until.Add(time.Second)), belfry.AskStanding{})
	if err := db.SettleAsk(ctx, second, false, &mails, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	same(t, "spent", standing(sent, now.Add(time.Minute)), belfry.AskStanding{Spent: now.Add(time.Hour)})
	apply(t, db, belfry.Changes{Members: []belfry.Member{{Subscription: "sub_a", Principal: "x@example.org", Object: "forum/4"}}})
	same(t, "joined elsewhere", standing(sent, now.Add(time.Hour)), belfry.AskStanding{Anywhere: true})
	apply(t, db, belfry.Changes{Members: []belfry.Member{{Subscription: "sub_a", Principal: "x@example.org", Object: "forum/3", By: "ada"}}})
	same(t, "joined", standing(sent, now.Add(time.Hour)), belfry.AskStanding{Anywhere: true, Member: true})
	joins, out, err := db.JoinsOf(ctx, tenant, "sub_a", "x@example.org")
	if err != nil || out || len(joins) != 2 || joins[0].By != "ada" {
		t.Errorf("%+v, %v, %v", joins, out, err)
	}
	key := belfry.JoinKey{Subscription: "sub_a", Principal: "x@example.org"}
	if stand, err := db.Joins(ctx, tenant, []belfry.JoinKey{key, key, {Subscription: "sub_b", Principal: "x@example.org"}}, true); err != nil || len(stand) != 1 || stand[key].OptedOut || len(stand[key].Members) != 2 || stand[key].Members[0].By != "ada" {
		t.Errorf("of many: %+v, %v", stand, err)
	}
	apply(t, db, belfry.Changes{OptOuts: []belfry.OptOut{{Subscription: "sub_a", Who: "x@example.org", Since: now}}})
	same(t, "opted out", standing(sent, now.Add(time.Hour)), belfry.AskStanding{OptedOut: true})

	// The same of many at once; who has nothing to do with one is left out.
	invite := ask("x@example.org", "sub_a", belfry.AskInvite, now)
	put(invite)
	keys := []belfry.JoinKey{{Subscription: "sub_a", Principal: "x@example.org"}, {Subscription: "sub_a", Principal: "nobody"}}
	for i := range 250 {
		keys = append(keys, belfry.JoinKey{Subscription: fmt.Sprint("sub_", i), Principal: "x@example.org"})
	}
	stand, err := db.Joins(ctx, tenant, keys, true)
	x := stand[keys[0]]
	if err != nil || x == nil || !x.OptedOut || len(x.Members) != 0 || len(x.Invited) != 1 || x.Invited[0].Kind != belfry.AskInvite || stand[keys[1]] != nil || len(stand) != 1 {
		t.Errorf("of many: %+v, %+v, %v", stand, x, err)
	}
	if err := db.SettleAsk(ctx, invite, true, nil, now); err != nil {
		t.Fatal(err)
	}
	if stand, err = db.Joins(ctx, tenant, append(keys[:1], keys[0]), false); err != nil || !stand[keys[0]].OptedOut || len(stand[keys[0]].Invited) != 0 {
		t.Errorf("without invitations: %+v, %v", stand, err)
	}

	// An answer is taken once, and lets what waits go.
	second.Due = now.Add(2 * time.Hour)
	if err := db.SettleAsk(ctx, second, false, nil, now); err != nil {
		t.Fatal(err)
	}
	answer := belfry.Changes{Tenant: tenant, DropAsks: []belfry.Ask{sent}, Asks: []belfry.Ask{ask("x@example.org", "sub_a", belfry.AskWelcome, now)}}
	if _, err := db.Apply(ctx, answer); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Apply(ctx, answer); belfry.KindOf(err) != belfry.Stale {
		t.Errorf("a second answer: %v", err)
	}
	got, _ := find(second)
	if !got.Due.Before(second.Due) {
		t.Errorf("what waited is due at %v", got.Due)
	}
	list := must[[]belfry.Ask](t)(db.Asks(ctx, tenant, "sub_b", "", now, 10))
	if len(list) != 1 || list[0].ID != second.ID {
		t.Errorf("%+v", list)
	}
	if list := must[[]belfry.Ask](t)(db.Asks(ctx, tenant, "sub_a", "", now, 10)); len(list) != 0 {
		t.Errorf("a welcome waits for an answer: %+v", list)
	}

	// Counts are of windows, and of tenants.
	count := belfry.AskCount{Who: "client 203.0.113.7", Span: time.Hour, Most: 2}
	for i := range 2 {
		put(ask(fmt.Sprint(i, "@example.org"), "sub_a", belfry.AskJoin, now), count)
	}
	err = db.Ask(ctx, ask("2@example.org", "sub_a", belfry.AskJoin, now.Add(20*time.Minute)), []belfry.AskCount{count})
	if e := (*belfry.Error)(nil); belfry.KindOf(err) != belfry.Overloaded || !errors.As(err, &e) || e.RetryAfter != 40*time.Minute {
		t.Errorf("%v", err)
	}
	if _, ok := find(ask("2@example.org", "sub_a", belfry.AskJoin, now)); ok {
		t.Error("what was refused is stored")
	}
	there := ask("2@example.org", "sub_a", belfry.AskJoin, now)
	there.Tenant = "other"
	put(there, count)
	put(ask("2@example.org", "sub_a", belfry.AskJoin, now.Add(time.Hour)), count)

	// Housekeeping takes what is over, and nothing else.
	last := ask("3@example.org", "sub_a", belfry.AskJoin, now.Add(time.Hour))
	put(last, count)
	prune := func(at time.Time) int { return must[int](t)(db.PruneAsks(ctx, tenant, at)) }
	same(t, "nothing is over", prune(now), 0)
	if n := prune(now.Add(time.Hour + time.Second)); n == 0 {
		t.Error("what nobody answered stays")
	}
	if _, ok := find(last); !ok {
		t.Error("what may still be answered is gone")
	}
	if _, ok := find(ask("0@example.org", "sub_a", belfry.AskJoin, now)); ok {
		t.Error("what nobody answered is still there")
	}
	same(t, "counts stay", db.Ask(ctx, last, []belfry.AskCount{{Who: count.Who, Span: count.Span, Most: 1}}) != nil, true)
	if prune(now.Add(100 * time.Hour)); prune(now.Add(100*time.Hour)) != 0 {
		t.Error("something over is left")
	}
	same(t, "a new count", db.Ask(ctx, last, []belfry.AskCount{{Who: count.Who, Span: count.Span, Most: 1}}), error(nil))
	if err := db.Ask(ctx, ask("a\x00b", "sub_a", belfry.AskJoin, now), nil); belfry.KindOf(err) != belfry.Invalid {
		t.Errorf("bad text: %v", err)
	}
}
