package manage

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// checkAuthoriser checks what the tenant's settings say of its authoriser.
func (m *Manager) checkAuthoriser(ctx context.Context, f *faults, tenant string, a *belfry.Authoriser) error {
	if a == nil {
		return nil
	}
	if f.key("/authoriser/endpoint", a.Endpoint, 64) {
		if _, err := m.Endpoint(ctx, tenant, a.Endpoint); belfry.KindOf(err) == belfry.NotFound {
			f.add("/authoriser/endpoint", "there is no endpoint %q: create it with POST /v1/endpoints", a.Endpoint)
		} else if err != nil {
			return err
		}
	}
	for _, d := range []struct {
		name, text  string
		least, most time.Duration
	}{{"ttl", a.TTL, time.Second, 24 * time.Hour}, {"give_up", a.GiveUp, time.Second, 30 * 24 * time.Hour}} {
		if d.text == "" {
			continue
		}
		f.span("/authoriser/"+d.name, d.text, d.least, d.most, "10m")
	}
	return nil
}

// asksNobody refuses to take away the endpoint that the platform's authoriser
// is asked at: nobody would be told any more.
func (m *Manager) asksNobody(ctx context.Context, tenant, endpoint string) error {
	s, _, err := m.TenantSettings(ctx, tenant)
	if err == nil && s.Authoriser != nil && s.Authoriser.Endpoint == endpoint {
		err = belfry.Errorf(belfry.Conflict, "the endpoint %s is where people's access is asked for: take authoriser out of the settings first", endpoint)
	}
	return err
}
