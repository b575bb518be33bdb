package resolve

import (
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// tellJoined resolves an address that joined and is nobody's id. Only its joins
// count: other rules name users by such an id, and this is none.
func (r *run) tellJoined(out *PageResult, e *entry, c *combo) {
	var live []liveMatch
	for i := range c.live {
		if slices.ContainsFunc(e.joins, func(j join) bool { return j.match == c.live[i].match }) {
			live = append(live, c.live[i])
		}
	}
	drop := func(deciding ...belfry.Reason) {
		out.Dropped = append(out.Dropped, belfry.Dropped{Address: e.id, Because: slices.Concat(naming(live), deciding)})
	}
	kept, refused := r.exclude(e.id, []string{e.id}, e.outs, live)
	if len(kept) == 0 {
		drop(refused...)
		return
	}
	live = kept
	if reason := r.see.refuse(r, ""); reason != nil {
		drop(*reason)
		return
	}
	if r.flags.silent != nil {
		drop(*r.flags.silent)
		return
	}
	for _, v := range r.vias(live, e.joins) {
		out.Recipients = append(out.Recipients, belfry.Recipient{Address: e.id, Via: v})
	}
}
