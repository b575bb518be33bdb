package resolve

import (
	"cmp"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// combo is what one set of sources amounts to. People named by the same
// sources share it.
type combo struct {
	sources []int32 // sorted
	made    bool    // the rest is

	live   []liveMatch
	denied []belfry.Reason // naming reasons that do not count
	denies []belfry.Reason // why they do not
	shared [][]belfry.Via  // of live, when nothing depends on the person
}

// liveMatch is a match with a reason that counts.
type liveMatch struct {
	match   int
	because []belfry.Reason
	member  *belfry.Member // a group's join
}

// setOf is the combo of a set of sources, which is made when it is asked for.
func (r *run) setOf(sources []int32) *combo {
	key := r.key[:0]
	for _, s := range sources {
		key = append(key, byte(s), byte(s>>8), byte(s>>16), byte(s>>24))
	}
	r.key = key
	if c, ok := r.combo[string(key)]; ok {
		return c
	}
	if r.combo == nil {
		r.combo = map[string]*combo{}
	}
	c := &combo{sources: slices.Clone(sources)}
	r.combo[string(key)] = c
	return c
}

func (r *run) made(c *combo) *combo {
	if c.made {
		return c
	}
	c.made = true
	order := slices.Clone(c.sources)
	slices.SortFunc(order, func(a, b int32) int {
		x, y := &r.sources[a], &r.sources[b]
		// Not by when a source was made, which depends on the page.
		return cmp.Or(cmp.Compare(x.match, y.match), cmp.Compare(x.reason.Rule, y.reason.Rule), cmp.Compare(x.level, y.level),
			strings.Compare(x.reason.Object, y.reason.Object), strings.Compare(x.reason.Role, y.reason.Role),
			strings.Compare(x.reason.Group, y.reason.Group), strings.Compare(x.reason.Detail, y.reason.Detail),
			compareDenies(x.deny, y.deny), cmp.Compare(a, b))
	})
	families := map[int32]bool{}
	for _, n := range order {
		s := &r.sources[n]
		if families[s.family] {
			continue
		}
		families[s.family] = true
		if s.deny != nil {
			c.denied = appendNew(c.denied, s.reason)
			if !slices.Contains(c.denies, *s.deny) {
				c.denies = append(c.denies, *s.deny)
			}
			continue
		}
		if len(c.live) == 0 || c.live[len(c.live)-1].match != s.match {
			c.live = append(c.live, liveMatch{match: s.match})
		}
		l := &c.live[len(c.live)-1]
		l.because = appendNew(l.because, s.reason)
		if s.member != nil && l.member == nil {
			l.member = s.member
		}
	}
	c.shared = r.vias(c.live, nil)
	return c
}

// appendNew adds a reason that is not the last one; equal ones come together.
func appendNew(to []belfry.Reason, r belfry.Reason) []belfry.Reason {
	if n := len(to); n > 0 && to[n-1] == r {
		return to
	}
	return append(to, r)
}

func compareDenies(a, b *belfry.Reason) int {
	switch {
	case a == b:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return cmp.Or(strings.Compare(a.Code, b.Code), strings.Compare(a.Detail, b.Detail), strings.Compare(a.Group, b.Group))
}

// vias are the ways of the live matches, the leading subscription first: one
// list of all that merge, and one for each that is kept apart.
func (r *run) vias(live []liveMatch, joins []join) [][]belfry.Via {
	joined := func(match int) *belfry.Member {
		for _, j := range joins {
			if j.match == match {
				return j.member
			}
		}
		return nil
	}
	order := make([]int, len(live))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &live[a], &live[b]
		if c := mandatoryFirst(r.matches[x.match].Subscription, r.matches[y.match].Subscription); c != 0 {
			return c
		}
		if len(joins) > 0 {
			switch xj, yj := joined(x.match) != nil, joined(y.match) != nil; {
			case xj && !yj:
				return -1
			case yj && !xj:
				return 1
			}
		}
		return cmp.Compare(r.rank[x.match], r.rank[y.match])
	})
	merged, apart := []belfry.Via(nil), [][]belfry.Via(nil)
	for _, i := range order {
		l := &live[i]
		m := &r.matches[l.match]
		member := l.member
		if own := joined(l.match); own != nil {
			member = own
		}
		var alone []belfry.Via
		into := &merged
		if !m.Subscription.Merges() {
			into = &alone
		}
		for _, n := range r.notifies[l.match] {
			*into = append(*into, belfry.Via{Match: m, Notify: n, Member: member, Because: l.because})
		}
		if alone != nil {
			apart = append(apart, alone)
		}
	}
	if merged == nil {
		return apart
	}
	return append([][]belfry.Via{merged}, apart...)
}

func (r *run) tellPeople(out *PageResult, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	// Only who is named by something that counts is looked up.
	combos := make([]*combo, len(entries))
	ids := make([]string, 0, len(entries))
	for i := range entries {
		combos[i] = r.made(entries[i].set)
		if len(combos[i].live) > 0 {
			ids = append(ids, entries[i].id)
		}
	}
	var persons map[string]*belfry.Person
	if len(ids) > 0 {
		var err error
		if persons, err = r.dir.Persons(ids); err != nil {
			return err
		}
	}
	out.Recipients = slices.Grow(out.Recipients, len(ids))
	if len(out.Persons) == 0 {
		out.Persons = make(map[string]*belfry.Person, len(ids))
	}
	for i := range entries {
		r.tellPerson(out, &entries[i], combos[i], persons[entries[i].id])
	}
	return nil
}

func (r *run) tellPerson(out *PageResult, e *entry, c *combo, p *belfry.Person) {
	if p == nil && len(e.joins) > 0 && belfry.IsAddress(e.id) {
		r.tellJoined(out, e, c)
		return
	}
	drop := func(naming, deciding []belfry.Reason) {
		out.Dropped = append(out.Dropped, belfry.Dropped{Principal: e.id, Because: slices.Concat(naming, deciding)})
	}
	if len(c.live) == 0 {
		drop(c.denied, c.denies)
		return
	}
	live, vias := c.live, c.shared
	var emails []string
	if len(r.exEmails) > 0 {
		emails = emailsOf(p)
	}
	if kept, refused := r.exclude(e.id, emails, e.outs, live); len(refused) > 0 {
		if len(kept) == 0 {
			drop(slices.Concat(naming(live), c.denied), slices.Concat(c.denies, refused))
			return
		}
		live, vias = kept, nil
	}
	if len(e.joins) > 0 || vias == nil {
		vias = r.vias(live, e.joins)
	}
	if reason := Away(p); reason != nil {
		drop(naming(live), []belfry.Reason{*reason})
		return
	}
	if reason := r.see.refuse(r, e.id); reason != nil {
		drop(naming(live), []belfry.Reason{*reason})
		return
	}
	if r.flags.silent != nil {
		drop(naming(live), []belfry.Reason{*r.flags.silent})
		return
	}
	for _, v := range vias {
		out.Recipients = append(out.Recipients, belfry.Recipient{Principal: e.id, Via: v})
	}
	out.Persons[e.id] = p
}

func naming(live []liveMatch) []belfry.Reason {
	var all []belfry.Reason
	for i := range live {
		all = append(all, live[i].because...)
	}
	return all
}

// Away is why nobody is told who is in the state of this person; nil = she is.
// nil stands for somebody who is not known.
func Away(p *belfry.Person) *belfry.Reason {
	switch {
	case p == nil:
		return &belfry.Reason{Code: belfry.UserUnknown}
	case p.User.State == belfry.UserSuspended:
		return &belfry.Reason{Code: belfry.UserIsSuspended}
	case p.User.State == belfry.UserDeleted:
		return &belfry.Reason{Code: belfry.UserIsDeleted}
	}
	return nil
}

// exclude splits the live matches of a principal into those that keep it and
// the reasons of those that do not: opt-outs, then their blacklist, then the
// actor. id is a user's, or the address itself; emails are normalised; outs are
// the matches it opted out of.
func (r *run) exclude(id string, emails []string, outs []int, live []liveMatch) (kept []liveMatch, refused []belfry.Reason) {
	isActor := r.e.Actor != "" && id == r.e.Actor
	if !isActor && len(outs) == 0 && len(r.exUsers) == 0 && len(r.exEmails) == 0 {
		return live, nil
	}
	listed := map[int]string{} // match -> the address that is listed
	for _, mi := range r.exUsers[id] {
		listed[mi] = ""
	}
	if len(r.exEmails) > 0 {
		for _, a := range emails {
			for _, mi := range r.exEmails[a] {
				if _, ok := listed[mi]; !ok {
					listed[mi] = a
				}
			}
		}
	}
	if !isActor && len(outs) == 0 && len(listed) == 0 {
		return live, nil
	}
	var black, actor []belfry.Reason
	for i := range live {
		mi := live[i].match
		sub := r.matches[mi].Subscription
		if slices.Contains(outs, mi) {
			refused = append(refused, belfry.Reason{Code: belfry.OptedOut, Subscription: sub.ID})
		} else if address, ok := listed[mi]; ok {
			black = append(black, belfry.Reason{Code: belfry.Blacklisted, Subscription: sub.ID, Detail: address})
		} else if isActor && sub.ExcludesActor() {
			actor = append(actor, belfry.Reason{Code: belfry.IsActor, Subscription: sub.ID})
		} else {
			kept = append(kept, live[i])
		}
	}
	return kept, slices.Concat(refused, black, actor)
}

// emailsOf are all addresses of a user, normalised.
func emailsOf(p *belfry.Person) []string {
	if p == nil {
		return nil
	}
	var all []string
	if p.User.Email != "" {
		all = append(all, belfry.NormaliseEmail(p.User.Email))
	}
	for i := range p.User.Contacts {
		if p.User.Contacts[i].Kind == "email" {
			all = append(all, belfry.NormaliseEmail(p.User.Contacts[i].Address))
		}
	}
	return all
}

// tellAddress resolves an address that no known user has.
func (r *run) tellAddress(out *PageResult, address string) {
	sources := slices.Clone(r.addresses[address])
	slices.Sort(sources)
	c := r.made(r.setOf(slices.Compact(sources)))
	drop := func(naming, deciding []belfry.Reason) {
		out.Dropped = append(out.Dropped, belfry.Dropped{Address: address, Because: slices.Concat(naming, deciding)})
	}
	live, vias := c.live, c.shared
	if len(live) == 0 {
		drop(c.denied, c.denies)
		return
	}
	if kept, refused := r.exclude(address, []string{address}, nil, live); len(refused) > 0 {
		if len(kept) == 0 {
			drop(slices.Concat(naming(live), c.denied), slices.Concat(c.denies, refused))
			return
		}
		live, vias = kept, r.vias(kept, nil)
	}
	reason := r.see.refuse(r, "")
	for _, n := range sources {
		if s := &r.sources[n]; reason != nil && s.group != "" && s.deny == nil {
			reason = r.see.refuse(r, s.group)
		}
	}
	if reason != nil {
		drop(naming(live), []belfry.Reason{*reason})
		return
	}
	if r.flags.silent != nil {
		drop(naming(live), []belfry.Reason{*r.flags.silent})
		return
	}
	for _, v := range vias {
		out.Recipients = append(out.Recipients, belfry.Recipient{Address: address, Via: v})
	}
}

// tellEndpoint lists an endpoint, or a script that runs once an event, once for all matches that merge and once for
// each that does not. A silent event calls none; the endpoint's id stands as
// the address of what is dropped.
func (r *run) tellEndpoint(out *PageResult, id string) {
	code := belfry.NamedEndpoint
	if _, script := belfry.ScriptOf(id); script {
		code = belfry.NamedScript
	}
	calls := slices.Clone(r.endpoints[id])
	slices.SortStableFunc(calls, func(a, b told) int { return cmp.Compare(r.rank[a.match], r.rank[b.match]) })
	var merged, dropped []belfry.Via
	var apart [][]belfry.Via
	for _, c := range calls {
		m := &r.matches[c.match]
		n := c.notify
		n.Channels = nil // those are for people
		v := belfry.Via{Match: m, Notify: n, Because: []belfry.Reason{{Code: code, Subscription: m.Subscription.ID}}}
		dropped = append(dropped, v)
		if m.Subscription.Merges() {
			merged = append(merged, v)
		} else {
			apart = append(apart, []belfry.Via{v})
		}
	}
	if r.flags.silent != nil {
		var because []belfry.Reason
		for i := range dropped {
			because = append(because, dropped[i].Because...)
		}
		out.Dropped = append(out.Dropped, belfry.Dropped{Address: id, Because: append(because, *r.flags.silent)})
		return
	}
	if merged != nil {
		out.Recipients = append(out.Recipients, belfry.Recipient{Endpoint: id, Via: merged})
	}
	for _, v := range apart {
		out.Recipients = append(out.Recipients, belfry.Recipient{Endpoint: id, Via: v})
	}
}
