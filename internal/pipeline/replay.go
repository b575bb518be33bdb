package pipeline

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
)

// replayed leaves out of a page of a replay what is not to be done again: what
// succeeded, unless the replay resends it, and what is on its way anyhow. Door 2
// holds to the same, for what changes in between.
func replayed(page *belfry.PlanPage, states map[string]belfry.State) {
	kept := page.Deliveries[:0]
	for _, d := range page.Deliveries {
		why := ""
		if state, known := states[d.ID]; known {
			switch {
			case state.Open():
				why = belfry.ReplayOpen
			case state == belfry.Delivered && !page.Resend:
				why = belfry.ReplayDelivered
			}
		}
		if why == "" {
			kept = append(kept, d)
			continue
		}
		because := append(append(make([]belfry.Reason, 0, len(d.Because)+1), d.Because...), belfry.Reason{Code: why})
		page.Suppressions = append(page.Suppressions, belfry.Suppression{Principal: d.Principal, Channel: d.Channel, Address: d.Address, Because: because})
	}
	clear(page.Deliveries[len(kept):])
	page.Deliveries = kept
}

// leaveOut looks up what is there of a replay's page, and leaves out what is not
// to be done again.
func (p *Planner) leaveOut(ctx context.Context, page *belfry.PlanPage) error {
	ids := make([]string, 0, len(page.Deliveries))
	for i := range page.Deliveries {
		if page.Deliveries[i].Channel != belfry.ChannelInbox { // whose rows are kept as they are
			ids = append(ids, page.Deliveries[i].ID)
		}
	}
	states, err := p.o.Store.DeliveryStates(ctx, page.Tenant, ids)
	if err == nil {
		replayed(page, states)
	}
	return err
}
