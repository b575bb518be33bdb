package storetest

import (
	"context"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-5, CPS-13 what is set at an object stays when its owner puts it again
func testPlaces(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	const tenant = belfry.DefaultTenant
	put := func() { apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "course/1", Title: "A"}}}) }
	put()
	settings := belfry.ObjectSettings{Lookup: belfry.LookupNearest, Stop: true, OwnSubscriptions: true, Flags: []string{belfry.FlagSilent}}
	v := apply(t, db, belfry.Changes{Places: []belfry.Place{{Object: "course/1", Settings: settings}, {Object: belfry.RootObject, Settings: settings}}})
	same(t, "changes", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 10)),
		[]belfry.Change{{Version: v, Kind: belfry.KindObject, Key: "course/1"}, {Version: v, Kind: belfry.KindObject, Key: belfry.RootObject}})
	put()
	read := func() map[string]belfry.Object {
		return must[map[string]belfry.Object](t)(db.Objects(ctx, tenant, []string{"course/1", belfry.RootObject}))
	}
	same(t, "objects", read(), map[string]belfry.Object{
		"course/1": {ID: "course/1", Title: "A", Settings: &settings}, belfry.RootObject: {ID: belfry.RootObject, Settings: &settings}})
	if children := must[[]belfry.Object](t)(db.Children(ctx, tenant, belfry.RootObject, "", 10)); len(children) != 1 || children[0].Settings == nil {
		t.Errorf("children of the root: %+v", children)
	}
	apply(t, db, belfry.Changes{Places: []belfry.Place{{Object: "course/1"}, {Object: belfry.RootObject}}})
	same(t, "nothing set", read(), map[string]belfry.Object{"course/1": {ID: "course/1", Title: "A"}, belfry.RootObject: {ID: belfry.RootObject}})
	_, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Places: []belfry.Place{{Object: "nowhere", Settings: settings}}})
	kind(t, err, belfry.NotFound)
}
