package resolve

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Only, and Some of many, give of anybody what a page of all gives of them, and
// of nobody else anything.
//
// feature: PEER-4
func TestOnlyIsThePartOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, e, ms, typ := drawWorld(t)
		all, err := Page(w, e, ms, typ, noon, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		type who struct{ principal, address, endpoint string }
		named := map[who]PageResult{{principal: "nobody/of~this name"}: {}, {endpoint: "ep_unknown"}: {}, {address: "nobody@x.example"}: {}}
		for _, r := range all.Recipients {
			p := named[who{r.Principal, r.Address, r.Endpoint}]
			p.Recipients = append(p.Recipients, r)
			named[who{r.Principal, r.Address, r.Endpoint}] = p
		}
		for _, d := range all.Dropped {
			key := who{principal: d.Principal, address: d.Address}
			if len(d.Because) > 0 && d.Because[0].Code == belfry.NamedEndpoint {
				key = who{endpoint: d.Address}
			}
			if d.Principal == "" && key.endpoint == "" && belfry.NormaliseEmail(d.Address) != d.Address {
				continue // a fault of a rule, not an address
			}
			p := named[key]
			p.Dropped = append(p.Dropped, d)
			named[key] = p
		}
		var asked []string
		for k := range named {
			asked = append(asked, k.principal+k.address)
		}
		some, err := Some(w, e, ms, typ, noon, asked)
		if err != nil {
			t.Fatal(err)
		}
		for k, want := range named {
			if k.endpoint == "" {
				together := some[k.principal+k.address]
				if d := cmp.Diff(want.Recipients, together.Recipients, cmpopts.EquateEmpty()); d != "" {
					t.Fatalf("%+v (-all +some)\n%s", k, d)
				}
				if d := cmp.Diff(want.Dropped, together.Dropped, cmpopts.EquateEmpty()); d != "" {
					t.Fatalf("%+v, dropped (-all +some)\n%s", k, d)
				}
			}
			got, err := Only(w, e, ms, typ, noon, &belfry.Replay{Recipient: k.principal + k.address, Endpoint: k.endpoint})
			if err != nil {
				t.Fatal(err)
			}
			if !got.Last {
				t.Fatal("there is more than one page")
			}
			if d := cmp.Diff(want.Recipients, got.Recipients, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%+v (-all +only)\n%s", k, d)
			}
			if d := cmp.Diff(want.Dropped, got.Dropped, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%+v, dropped (-all +only)\n%s", k, d)
			}
		}
	})
}
