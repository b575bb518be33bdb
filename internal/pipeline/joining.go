package pipeline

import (
	"encoding/json"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// ConfirmationsID is the built-in subscription by which addresses are asked to
// confirm that they join or leave: by mail, whatever whoever has the address
// prefers, for nothing else can show that she reads it.
const ConfirmationsID = belfry.SubscriptionPrefix + "confirmations"

func confirmations() belfry.Subscription {
	no := false
	return belfry.Subscription{
		ID: ConfirmationsID, Title: "Confirmations of addresses", Types: []string{belfry.EventConfirm, belfry.EventLeaving},
		Recipients: []belfry.Rule{{Related: &belfry.RelatedRule{}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}, Mandatory: true,
		ExcludeActor: &no, State: belfry.SubscriptionActive, Origin: belfry.FromBelfry, Created: time.Unix(0, 0).UTC(),
	}
}

// leaves is the page by which who is told that she joined leaves again.
func (m *Messages) leaves(d *belfry.Delivery, e *belfry.Event) string {
	var about struct {
		Subscription string `json:"subscription"`
	}
	if e.Type != belfry.EventJoined || json.Unmarshal(e.Data, &about) != nil || about.Subscription == "" {
		return ""
	}
	return m.links.Unsubscribe(d.Tenant, about.Subscription, d.Principal, d.Address)
}
