package route

import (
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// speaking is r without the ways whose notification says, by its expression,
// that there is no message for this reader; nil, and recorded, when none is
// left. user is nil for an address. An expression that fails keeps its way, and
// that it failed is among the reasons: nobody goes without for a fault.
func (p *plan) speaking(r *belfry.Recipient, user *belfry.User) *belfry.Recipient {
	i := 0
	for ; i < len(r.Via) && r.Via[i].Notify.Message == ""; i++ {
	}
	if i == len(r.Via) {
		return r // as nearly always
	}
	if user == nil {
		user = &belfry.User{Email: r.Address}
	}
	kept := *r
	kept.Via = slices.Clone(r.Via[:i])
	var none belfry.Reason
	for _, via := range r.Via[i:] {
		if via.Notify.Message != "" {
			switch said := p.say(via.Notify.Message, user); {
			case said.None:
				none = belfry.Reason{Code: belfry.MessageNone, Subscription: idOf(&via)}
				continue
			case said.Fault != "":
				fault := belfry.Reason{Code: belfry.MessageFault, Subscription: idOf(&via), Detail: said.Fault}
				via.Because = append(slices.Clip(slices.Clone(via.Because)), fault)
			}
		}
		kept.Via = append(kept.Via, via)
	}
	if len(kept.Via) == 0 {
		p.suppress(r, "", "", none)
		return nil
	}
	return &kept
}

func (p *plan) say(message string, user *belfry.User) expr.Said {
	m, err := expr.CompileMessage(message)
	if err != nil { // it was valid when it was saved: a later version may see it otherwise
		return expr.Said{Fault: err.Error()}
	}
	if p.vars == nil {
		p.vars = expr.NewVars(p.in.Event.Event, expr.Facts{Ancestors: p.in.Ancestors, Actor: p.in.Actor, Now: p.in.Now})
	}
	return m.Say(p.vars, user)
}

func idOf(via *belfry.Via) string {
	if via.Match == nil {
		return ""
	}
	return via.Match.Subscription.ID
}
