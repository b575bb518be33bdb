package manage

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-24 opt-outs survive edits of the rules: CPS forgot them all when
// its matrix of roles was saved
func TestOptOutsSurviveEdits(t *testing.T) {
	h := open(t).school()
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"editingteacher"}}}}})
	h.ok(err)
	_, err = h.store.Apply(h.ctx(), belfry.Changes{Tenant: by.Tenant, OptOuts: []belfry.OptOut{{Subscription: s.ID, Who: "user/8", Since: h.now}}})
	h.ok(err)
	next := s.Subscription
	next.Recipients = []belfry.Rule{{Workflow: &belfry.WorkflowRule{}}, {Role: &belfry.RoleRule{Roles: []string{"*"}}}}
	_, err = h.PutSubscription(h.ctx(), by, next, nil)
	h.ok(err)
	_, err = h.PauseSubscription(h.ctx(), by, s.ID, "")
	h.ok(err)
	_, err = h.ResumeSubscription(h.ctx(), by, s.ID)
	h.ok(err)
	outs, err := h.db.OptOuts(h.ctx(), by.Tenant, s.ID, "", 10)
	h.ok(err)
	if len(outs) != 1 || outs[0].Who != "user/8" {
		t.Errorf("opt-outs after the edits: %+v", outs)
	}
}
