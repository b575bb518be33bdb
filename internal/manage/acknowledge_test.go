package manage

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: PEER-10, S3-20
func TestLimitsAreChecked(t *testing.T) {
	h := open(t).school()
	_, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Throttle: &belfry.Throttle{Window: "1y", Key: "evnt.type"}})
	h.refused(err, belfry.Invalid, "/throttle/limit: from 1", "/throttle/window: such as", "/throttle/key: evnt")
	_, err = h.PutSettings(h.ctx(), by, "user/8", belfry.Settings{MaxPerDay: map[string]int{"pigeon": 1, "inbox": 1, "email": 0}})
	h.refused(err, belfry.Invalid, "/max_per_day/pigeon: set up", "/max_per_day/inbox: not limited", "/max_per_day/email: from 1")
	if s, err := h.PutSettings(h.ctx(), by, "user/8", belfry.Settings{MaxPerDay: map[string]int{"email": 3}}); err != nil || s.MaxPerDay["email"] != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	_, _, err = h.PutTenantSettings(h.ctx(), by, belfry.TenantSettings{MaxPerDay: map[string]int{"pigeon": 1}}, nil)
	h.refused(err, belfry.Invalid, "/max_per_day/pigeon: set up")
}

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
	err = h.Acknowledge(h.ctx(), by, "evt_unknown", strings.Repeat("x", 100_000), belfry.ByAPI)
	if h.refused(err, belfry.NotFound); len(err.Error()) > 300 {
		t.Errorf("an answer of %d bytes", len(err.Error()))
	}
	if n, err := h.AcknowledgeInbox(h.ctx(), by, "user/8", []string{"dlv_unknown"}); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
