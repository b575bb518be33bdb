package app

import (
	"context"
	"errors"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/pipeline"
)

// aftermath draws the consequences of what a send taught.
type aftermath struct {
	app      *App
	dir      *directory.Directory
	failures *pipeline.Failures
	period   time.Duration // of failing only, after which an endpoint is disabled
}

// Ended disables endpoints that have failed for too long.
func (f *aftermath) Ended(ctx context.Context, calls []pipeline.Call) error {
	failed, failure := f.failures.Note(ctx, calls)
	for i := range failed {
		d := failed[i].Delivery
		e, found, err := f.dir.Endpoint(ctx, d.Tenant, d.Address)
		if err == nil && found {
			if why := pipeline.FailedTooLong(e, failed[i].Since, f.app.clock.now(), f.period); why != "" {
				err = f.disable(ctx, d, e, why)
			}
		}
		failure = errors.Join(failure, err)
	}
	return failure
}

// Gained forgets what another process has followed until now.
func (f *aftermath) Gained(shards []int) { f.failures.Forget(shards) }

// Settle keeps which endpoints fail.
func (f *aftermath) Settle(ctx context.Context) error { return f.failures.Settle(ctx) }

// Gone acts on an address that its destination says is dead: an endpoint is
// disabled and its owner told, a contact gets a tombstone.
func (f *aftermath) Gone(ctx context.Context, d *belfry.Delivery, out belfry.Outcome) error {
	if d.Channel == belfry.ChannelWebhook {
		return f.endpoint(ctx, d, out)
	}
	if d.Principal == "" {
		return nil // a bare address has no row to mark
	}
	kind := "email"
	for _, r := range f.app.channels.of(d.Tenant).routes {
		if r.Name == d.Channel {
			kind = r.Contact
		}
	}
	_, err := f.app.publisher.Apply(ctx, belfry.Changes{
		Tenant:       d.Tenant,
		DeadContacts: []belfry.DeadContact{{User: d.Principal, Kind: kind, Address: d.Address, Reason: out.Detail, At: f.app.clock.now()}},
		Audit:        []belfry.AuditEntry{{At: f.app.clock.now(), Who: "belfry", Action: "contact.dead", Target: d.Principal, Detail: out.Detail}},
	})
	return err
}

func (f *aftermath) endpoint(ctx context.Context, d *belfry.Delivery, out belfry.Outcome) error {
	e, found, err := f.dir.Endpoint(ctx, d.Tenant, d.Address)
	if err != nil || !found || e.State == belfry.EndpointDisabled {
		return err
	}
	return f.disable(ctx, d, e, "the receiver answered that it is gone (410)")
}

// disable disables an endpoint and tells its owner.
func (f *aftermath) disable(ctx context.Context, d *belfry.Delivery, e *belfry.Endpoint, because string) error {
	disabled := *e
	disabled.State = belfry.EndpointDisabled
	disabled.Because = because
	body, err := belfry.EncodeEndpoint(disabled)
	if err != nil {
		return err
	}
	_, err = f.app.publisher.Apply(ctx, belfry.Changes{
		Tenant:    d.Tenant,
		Documents: []belfry.Document{{Kind: belfry.KindEndpoint, ID: e.ID, Body: body}},
		IfMatch:   []belfry.Expectation{{Kind: belfry.KindEndpoint, Key: e.ID, Version: e.Version}},
		Audit:     []belfry.AuditEntry{{At: f.app.clock.now(), Who: "belfry", Action: "endpoint.disable", Target: e.ID, Detail: disabled.Because}},
	})
	if belfry.KindOf(err) == belfry.Stale {
		return nil // somebody edited it meanwhile: their word is newer than the receiver's
	}
	if err != nil {
		return err
	}
	notice := belfry.Event{
		Source: belfry.OwnSource, Type: belfry.EventEndpointDisabled, ID: e.ID + "-" + d.ID,
		Data: jsonObject("endpoint", e.ID, "url", e.URL, "because", disabled.Because),
	}
	if e.Owner != "" {
		notice.Related = []string{e.Owner}
	}
	_, err = f.app.ingest.Admit(ctx, ingest.Origin{Tenant: d.Tenant, Key: "belfry", Own: true}, []belfry.Event{notice})
	return err
}
