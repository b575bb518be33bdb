package manage

import (
	"context"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: NEW-4 the settings of the authoriser, and its endpoint while it is one
func TestAuthoriserSettings(t *testing.T) {
	h := open(t)
	ctx := context.Background()
	e, _, err := h.CreateEndpoint(ctx, by, belfry.Endpoint{URL: "https://platform.example/"})
	if err != nil {
		t.Fatal(err)
	}
	for place, a := range map[string]belfry.Authoriser{
		"/authoriser/endpoint: is required":             {},
		"/authoriser/endpoint: there is no":             {Endpoint: "ep_none"},
		"/authoriser/ttl: must be a length of time":     {Endpoint: e.ID, TTL: "1ms"},
		"/authoriser/give_up: must be a length of time": {Endpoint: e.ID, GiveUp: "900h"},
	} {
		_, _, err := h.PutTenantSettings(ctx, by, belfry.TenantSettings{Authoriser: &a}, nil)
		h.refused(err, belfry.Invalid, place)
	}
	s, _, err := h.PutTenantSettings(ctx, by, belfry.TenantSettings{Authoriser: &belfry.Authoriser{Endpoint: e.ID}}, nil)
	if err != nil || s.Authoriser.Holds() != belfry.AuthoriserTTL || s.Authoriser.Patience() != belfry.AuthoriserGiveUp {
		t.Errorf("%+v, %v", s, err)
	}
	if err := h.DeleteEndpoint(ctx, by, e.ID, nil); belfry.KindOf(err) != belfry.Conflict {
		t.Errorf("%v", err)
	}
	if _, _, err := h.PutTenantSettings(ctx, by, belfry.TenantSettings{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteEndpoint(ctx, by, e.ID, nil); err != nil {
		t.Error(err)
	}
}
