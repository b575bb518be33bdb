package app

import (
	"fmt"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What is in doubt stays bounded however long the database is away.
func TestDoubtsAreBounded(t *testing.T) {
	d := newDoubts()
	for i := range 3 * manyDoubts {
		d.add(&belfry.Changes{
			Tenant: "a", Subscriptions: []belfry.Subscription{{ID: fmt.Sprint(i)}},
			Documents: []belfry.Document{{Kind: belfry.KindTemplate, ID: "t"}, {Kind: "idempotency", ID: fmt.Sprint(i)}},
		}, 0)
	}
	d.add(&belfry.Changes{Tenant: "b", Subscriptions: []belfry.Subscription{{ID: "1"}}}, 1)
	got := d.take()
	if a := got["a"]; !a.all || len(a.subs) > manyDoubts || len(a.docs) != 1 {
		t.Errorf("all %v, %d subscriptions, %d documents", a.all, len(a.subs), len(a.docs))
	}
	b := got["b"]
	if b.all || len(b.subs) != 1 {
		t.Errorf("%+v", b)
	}
	d.again("b", b) // could not be resolved: nothing is forgotten
	if again := d.take()["b"]; again == nil || len(again.subs) != 1 || again.behind != 1 || len(d.take()) != 0 {
		t.Errorf("%+v", again)
	}
}

// Where the log of changes was cut off, everything is in doubt.
func TestACutOfTheLogIsEverything(t *testing.T) {
	d := newDoubt()
	d.note(&belfry.Change{Version: 7, Kind: belfry.KindEverything})
	if !d.all || len(d.docs) != len(inMemory) {
		t.Errorf("all %v, %d kinds of documents, want %d", d.all, len(d.docs), len(inMemory))
	}
}
