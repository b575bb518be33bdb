package route

import "github.com/belfryhq/belfry/internal/belfry"

// script runs a script, once for the event (who is empty) or for a bare address.
func (p *plan) script(r *belfry.Recipient, script string, via *belfry.Via, address, who string) {
	ch := p.channels[script]
	switch {
	case ch == nil || ch.Kind != belfry.KindScript:
		p.suppress(r, script, who, belfry.Reason{Code: belfry.ChannelUnknown, Detail: script})
	case p.forbidden(script):
		p.suppress(r, script, who, belfry.Reason{Code: belfry.ChannelForbidden, Detail: p.in.Event.Event.Type})
	default:
		decision := belfry.Reason{Code: belfry.BySubscription, Subscription: idOf(via)}
		p.deliver(r, script, address, belfry.ScriptAddress(script, ""), via, p.because(r, decision, belfry.Reason{}))
	}
}
