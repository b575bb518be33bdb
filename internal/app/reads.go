package app

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/web/api"
)

// reads gives the API the store's lists under the API's own queries.
type reads struct{ *store.DB }

// ListEvents lists stored events, newest first.
func (r reads) ListEvents(ctx context.Context, tenant string, q api.EventQuery) ([]belfry.Accepted, string, error) {
	return r.DB.ListEvents(ctx, tenant, store.EventFilter{Type: q.Type, Object: q.Object, Since: q.Since, Before: q.Before, Limit: q.Limit})
}

// ListDeliveries lists deliveries, newest first.
func (r reads) ListDeliveries(ctx context.Context, tenant string, q api.DeliveryQuery) ([]belfry.Delivery, string, error) {
	return r.DB.ListDeliveries(ctx, tenant, store.DeliveryFilter{
		State: q.State, Recipient: q.Recipient, Event: q.Event, Channel: q.Channel, Endpoint: q.Endpoint, Subscription: q.Subscription,
		Since: q.Since, Until: q.Until, Before: q.Before, Limit: q.Limit,
	})
}

// ListBundles lists digests, newest first.
func (r reads) ListBundles(ctx context.Context, tenant string, q api.DigestQuery) ([]belfry.Bundle, string, error) {
	return r.DB.ListBundles(ctx, tenant, store.BundleFilter{State: q.State, Recipient: q.Recipient, Before: q.Before, Limit: q.Limit})
}

// ListJobs lists jobs, newest first.
func (r reads) ListJobs(ctx context.Context, tenant string, q api.JobQuery) ([]belfry.Job, string, error) {
	return r.Jobs(ctx, tenant, store.JobFilter{State: q.State, Kind: q.Kind, Before: q.Before, Limit: q.Limit})
}

// traces gives the explainer what the store kept of an event's planning.
type traces struct{ *store.DB }

// Trace reads a page of what was decided.
func (t traces) Trace(ctx context.Context, tenant string, q belfry.TraceQuery) (belfry.TraceRows, error) {
	got, err := t.DB.Trace(ctx, tenant, q.EventID, q.Principal, store.TracePage{After: q.After, Limit: q.Limit})
	if err != nil {
		return belfry.TraceRows{}, err
	}
	rows := belfry.TraceRows{Deliveries: got.Deliveries, Suppressions: got.Suppressions, Planned: got.Planned, Next: got.Next}
	for _, run := range got.Matches {
		rows.Matches = append(rows.Matches, run.Matches...)
	}
	return rows, nil
}

// catalogue is what ingest asks of the directory.
type catalogue struct{ *directory.Directory }

// UnknownObjects are those of ids that no object has; tombstones count as
// objects.
func (c catalogue) UnknownObjects(ctx context.Context, tenant string, ids []string) ([]string, error) {
	view, err := c.At(ctx, tenant, 0)
	if err != nil {
		return nil, err
	}
	known, err := view.Objects(ids)
	if err != nil {
		return nil, err
	}
	var unknown []string
	for _, id := range ids {
		if _, ok := known[id]; !ok && id != belfry.RootObject {
			unknown = append(unknown, id)
		}
	}
	return unknown, nil
}

// documents gives the API the store's documents, edits put in force, and the
// audit.
type edits struct{ *publisher }

// Audit is a page of the audit, newest first.
func (d edits) Audit(ctx context.Context, tenant, before string, limit int) ([]belfry.AuditEntry, string, error) {
	rows, err := d.publisher.DB.Audit(ctx, tenant, before, limit)
	if err != nil {
		return nil, "", err
	}
	entries := make([]belfry.AuditEntry, 0, len(rows))
	next := ""
	for _, r := range rows {
		entries = append(entries, r.AuditEntry)
	}
	if limit > 0 && len(rows) == limit {
		next = rows[len(rows)-1].ID
	}
	return entries, next, nil
}
