package manage

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: NEW-17
func TestEscalationIsChecked(t *testing.T) {
	h := open(t).school()
	_, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Acknowledge: &belfry.Acknowledge{Escalate: []belfry.EscalationStep{
		{After: "15m"}, {After: ""}, {After: "1y"}, {After: "0s"}, {After: "1h", Users: []string{""}, Channels: []string{"pigeon"}}}}})
	h.refused(err, belfry.Invalid, "/acknowledge/escalate/1/after: such as", "/acknowledge/escalate/2/after: such as", "/acknowledge/escalate/3/after: such as",
		"/acknowledge/escalate/4/users/0: required", "/acknowledge/escalate/4/channels/0: pigeon")
	_, err = h.CreateSubscription(h.ctx(), by, belfry.Subscription{Acknowledge: &belfry.Acknowledge{Escalate: make([]belfry.EscalationStep, maxSteps+1)}})
	h.refused(err, belfry.Invalid, "/acknowledge/escalate: at most")
	h.refused(h.Acknowledge(h.ctx(), by, "evt_unknown", "user/8", belfry.ByAPI), belfry.NotFound)
	if n, err := h.AcknowledgeInbox(h.ctx(), by, "user/8", []string{"dlv_unknown"}); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
