package resolve

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// source is one way in which a rule names people: the reason, and why it does
// not count, if so. Everybody named in the same way shares the source.
type source struct {
	match  int
	family int32 // sources of one family say the same of one person; the first is kept
	reason belfry.Reason
	deny   *belfry.Reason
	member *belfry.Member // the join of a group through which it names people
	group  string         // of an address: the group that has it
	level  int            // how far up the grant or the join is
}

// run is the resolution of one event, made anew for every page: what rules
// name is laid out as streams, nobody is expanded before they are asked for.
type run struct {
	dir     Directory
	acc     *belfry.Accepted
	e       *belfry.Event
	matches []belfry.Match
	typ     belfry.EventType
	now     time.Time
	chunk   int // how much of a long list is read at once

	flags  flags
	chain  []belfry.Object // the event's object first, the root last
	at     map[string]int  // position in chain
	grants map[string]Grants
	wishes []wish           // of rules that give names of any kind
	faults []belfry.Reason  // rules that could not be worked out, or were cut
	vars   *expr.Vars       // of computed rules, made when one needs them
	groups map[string]Group // closure of all groups that matter
	flat   map[string]*flatGroup

	sources   []source
	addresses map[string][]int32 // normalised, owned by no known user
	endpoints map[string][]told
	streams   []stream
	groupOf   map[string]*groupStream
	everyone  *everyoneStream
	pairs     []pair

	notifies [][]belfry.Notify // of each match: what tells people
	rank     []int             // of each match: its place when nobody joined herself
	exUsers  map[string][]int  // user -> matches that leave her out
	exEmails map[string][]int

	see   sight
	combo map[string]*combo

	scratch []int32 // sources of who is looked at
	key     []byte  // of a combo
}

// told is an endpoint that a match calls.
type told struct {
	match  int
	notify belfry.Notify
}

// flatGroup is everything below a group, each group once, nearest first.
type flatGroup struct {
	parts     []Group // with users to be told one by one
	addressed []Group // told by their address
	unknown   []string
	tooDeep   []string
	everyone  bool
}

// request is a rule's wish to name what one group stands for.
type request struct {
	group  string
	source source
}

func (r *run) compile() error {
	if err := r.loadChain(); err != nil {
		return err
	}
	r.rankMatches()
	r.addresses = map[string][]int32{}
	r.groupOf = map[string]*groupStream{}
	emails := map[string][]int32{}
	var requests []request
	var roleRules []roleRule
	for mi := range r.matches {
		sub := r.matches[mi].Subscription
		if len(r.notifies[mi]) == 0 {
			continue // it only calls endpoints: nobody is asked for
		}
		for i := range sub.Recipients {
			rule := &sub.Recipients[i]
			switch {
			case rule.Explicit != nil:
				for _, id := range rule.Explicit.Users {
					r.name(id, source{match: mi, reason: belfry.Reason{Code: belfry.NamedUser, Subscription: sub.ID, Rule: i + 1}})
				}
				for _, id := range rule.Explicit.Groups {
					requests = append(requests, request{id, source{match: mi,
						reason: belfry.Reason{Code: belfry.NamedGroup, Subscription: sub.ID, Rule: i + 1, Group: id}}})
				}
				for _, a := range rule.Explicit.Emails {
					if n := belfry.NormaliseEmail(a); n != "" {
						emails[n] = append(emails[n], r.add(source{match: mi,
							reason: belfry.Reason{Code: belfry.NamedAddress, Subscription: sub.ID, Rule: i + 1, Detail: n}}))
					}
				}
			case rule.Role != nil:
				roleRules = append(roleRules, roleRule{mi, i + 1, rule.Role})
			case rule.Related != nil:
				r.wishRelated(relatedRule{mi, i + 1, rule.Related})
			case rule.Workflow != nil:
				if err := r.wishWorkflow(workflowRule{mi, i + 1, rule.Workflow}); err != nil {
					return err
				}
			case rule.Computed != nil:
				if err := r.wishComputed(computedRule{mi, i + 1, rule.Computed}); err != nil {
					return err
				}
			}
		}
		joined, err := r.joinMembers(mi)
		if err != nil {
			return err
		}
		requests = append(requests, joined...)
	}
	if err := r.loadGrants(roleRules); err != nil {
		return err
	}
	wished, err := r.grantWishes(emails)
	if err != nil {
		return err
	}
	requests = append(requests, wished...)
	byRole, err := r.nameRoles(roleRules)
	if err != nil {
		return err
	}
	requests = append(requests, byRole...)
	if err := r.loadGroups(requests); err != nil {
		return err
	}
	for i := range requests {
		r.expand(&requests[i], emails)
	}
	if err := r.placeEmails(emails); err != nil {
		return err
	}
	r.see.prepare(r)
	if len(r.pairs) > 0 {
		r.streams = append(r.streams, newPairStream(r.pairs))
	}
	return nil
}

func (r *run) loadChain() error {
	object := r.e.ObjectOrRoot()
	chain, err := ancestors(r.dir, object)
	if err != nil {
		return err
	}
	r.chain = chain
	r.flags = flagsOf(r.e, chain)
	r.at = make(map[string]int, len(chain))
	for i := range chain {
		if _, ok := r.at[chain[i].ID]; !ok {
			r.at[chain[i].ID] = i
		}
	}
	return nil
}

// ancestors are never empty: an object the directory knows nothing of counts
// as a child of the root.
func ancestors(dir Directory, object string) ([]belfry.Object, error) {
	chain, err := dir.Ancestors(object)
	if err != nil {
		return nil, err
	}
	if len(chain) > 0 {
		return chain, nil
	}
	if object == Root {
		return []belfry.Object{{ID: Root}}, nil
	}
	return []belfry.Object{{ID: object, Implied: true}, {ID: Root}}, nil
}

func (r *run) add(s source) int32 {
	n := int32(len(r.sources))
	if s.family == 0 {
		s.family = n + 1
	}
	r.sources = append(r.sources, s)
	return n
}

func (r *run) name(id string, s source) {
	if id != "" {
		r.pairs = append(r.pairs, pair{id, r.add(s)})
	}
}

// rankMatches orders the matches as leading subscriptions and splits what they
// do into telling people and calling endpoints.
func (r *run) rankMatches() {
	n := len(r.matches)
	r.notifies = make([][]belfry.Notify, n)
	r.endpoints = map[string][]told{}
	order := make([]int, n)
	for mi := range r.matches {
		order[mi] = mi
		sub := r.matches[mi].Subscription
		if len(sub.Notify) == 0 {
			r.notifies[mi] = []belfry.Notify{{}}
		}
		for _, nt := range sub.Notify {
			if nt.Endpoint != "" {
				r.endpoints[nt.Endpoint] = append(r.endpoints[nt.Endpoint], told{mi, nt})
				if len(nt.Channels) == 0 {
					continue
				}
				nt.Endpoint = ""
			}
			if nt.Script != "" && nt.Per != belfry.PerRecipient {
				id := belfry.ScriptAddress(nt.Script, "")
				r.endpoints[id] = append(r.endpoints[id], told{mi, nt})
				continue
			}
			r.notifies[mi] = append(r.notifies[mi], nt)
		}
		for _, id := range sub.Exclude.Users {
			if r.exUsers == nil {
				r.exUsers = map[string][]int{}
			}
			r.exUsers[id] = append(r.exUsers[id], mi)
		}
		for _, a := range sub.Exclude.Emails {
			if r.exEmails == nil {
				r.exEmails = map[string][]int{}
			}
			a = belfry.NormaliseEmail(a)
			r.exEmails[a] = append(r.exEmails[a], mi)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return compareMatches(&r.matches[a], &r.matches[b]) })
	r.rank = make([]int, n)
	for place, mi := range order {
		r.rank[mi] = place
	}
}

// compareMatches orders leading subscriptions apart from joins: mandatory
// first, then closest scope, most specific type, oldest.
func compareMatches(a, b *belfry.Match) int {
	return cmp.Or(
		mandatoryFirst(a.Subscription, b.Subscription),
		cmp.Compare(a.Distance, b.Distance),
		cmp.Compare(Specificity(b.Pattern), Specificity(a.Pattern)),
		a.Subscription.Created.Compare(b.Subscription.Created),
		strings.Compare(a.Subscription.ID, b.Subscription.ID),
	)
}

func mandatoryFirst(a, b *belfry.Subscription) int {
	switch {
	case a.Mandatory == b.Mandatory:
		return 0
	case a.Mandatory:
		return -1
	}
	return 1
}

// Specificity orders type patterns: an exact one is higher than any prefix, a
// longer prefix higher than a shorter one, and "" (every type) the lowest.
func Specificity(pattern string) int {
	if pattern == "" {
		return -1
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return len(prefix)
	}
	return 1 << 30
}

// joinedAt is where in the chain a member joined, and whether the event is
// within it; a join for the whole scope is the farthest.
func (r *run) joinedAt(m *belfry.Member) (int, bool) {
	if m.Object == "" {
		return len(r.chain), true
	}
	at, ok := r.at[m.Object]
	return at, ok
}

func (r *run) joinMembers(mi int) ([]request, error) {
	sub := r.matches[mi].Subscription
	joined, err := r.dir.JoinedGroups(sub.ID)
	if err != nil {
		return nil, err
	}
	s := &memberStream{dir: r.dir, chunk: r.chunk, match: mi, subscription: sub.ID}
	r.streams = append(r.streams, s, &optOutStream{dir: r.dir, chunk: r.chunk, match: mi, subscription: sub.ID})
	if len(joined) == 0 {
		return nil, nil
	}
	// Joins of one group at several places: those that apply, closest first,
	// so that the closest is the one that holds; without any, all of them, so
	// that its members learn why they are not told.
	joined = slices.Clone(joined)
	slices.SortStableFunc(joined, func(a, b belfry.Member) int {
		aAt, aOK := r.joinedAt(&a)
		bAt, bOK := r.joinedAt(&b)
		if aOK != bOK {
			return map[bool]int{true: -1, false: 1}[aOK]
		}
		return cmp.Or(strings.Compare(a.Principal, b.Principal), cmp.Compare(aAt, bAt))
	})
	s.groups = map[string]bool{}
	applies := map[string]bool{}
	var requests []request
	for i := range joined {
		m := &joined[i]
		s.groups[m.Principal] = true
		level, here := r.joinedAt(m)
		src := source{match: mi, member: m, level: level,
			reason: belfry.Reason{Code: belfry.NamedMember, Subscription: sub.ID, Object: m.Object, Group: m.Principal}}
		if applies[m.Principal] {
			continue
		}
		if here {
			applies[m.Principal] = true
		} else {
			src.deny = &belfry.Reason{Code: belfry.JoinedElsewhere, Subscription: sub.ID, Object: m.Object}
		}
		requests = append(requests, request{m.Principal, src})
	}
	return requests, nil
}

// joinSource is the source of everybody who joined at object.
func (r *run) joinSource(s *memberStream, object string, elsewhere bool) int32 {
	known := &s.here
	if elsewhere {
		known = &s.elsewhere
	}
	if n, ok := (*known)[object]; ok {
		return n
	}
	id := r.matches[s.match].Subscription.ID
	src := source{match: s.match, reason: belfry.Reason{Code: belfry.NamedMember, Subscription: id, Object: object}}
	if elsewhere {
		src.deny = &belfry.Reason{Code: belfry.JoinedElsewhere, Subscription: id, Object: object}
	}
	n := r.add(src)
	if *known == nil {
		*known = map[string]int32{}
	}
	(*known)[object] = n
	return n
}

// loadGroups reads the groups of the requests, and those that visibility
// needs, with everything below them, level by level.
func (r *run) loadGroups(requests []request) error {
	r.groups = map[string]Group{}
	r.flat = map[string]*flatGroup{}
	asked := map[string]bool{}
	var level []string
	ask := func(id string) {
		if !asked[id] && !IsPseudo(id) {
			asked[id] = true
			level = append(level, id)
		}
	}
	for i := range requests {
		ask(requests[i].group)
	}
	if r.seesByRole() {
		for i := range r.chain {
			for _, g := range r.grants[r.chain[i].ID].Groups {
				ask(g.Principal)
			}
		}
	}
	// One level more than may be expanded: nothing deeper is ever looked at.
	for depth := 0; depth <= MaxDepth && len(level) > 0; depth++ {
		found, err := r.dir.Groups(level)
		if err != nil {
			return err
		}
		asking := level
		level = nil
		for _, id := range asking {
			g, ok := found[id]
			if !ok {
				continue
			}
			r.groups[id] = g
			for _, sub := range g.Groups {
				ask(sub)
			}
		}
	}
	return nil
}

// flatten walks a group breadth first; cycles end where they began.
func (r *run) flatten(id string, addresses bool) *flatGroup {
	key := id
	if !addresses {
		key = "\x00" + id
	}
	if f, ok := r.flat[key]; ok {
		return f
	}
	f := &flatGroup{}
	r.flat[key] = f
	seen := map[string]bool{id: true}
	level := []string{id}
	for depth := 1; len(level) > 0; depth++ {
		var below []string
		for _, id := range level {
			if IsPseudo(id) {
				f.everyone = true
				continue
			}
			if depth > MaxDepth {
				f.tooDeep = append(f.tooDeep, id)
				continue
			}
			g, ok := r.groups[id]
			if !ok {
				f.unknown = append(f.unknown, id)
				continue
			}
			if addresses && g.Address != "" {
				f.addressed = append(f.addressed, g)
				continue
			}
			f.parts = append(f.parts, g)
			for _, sub := range g.Groups {
				if !seen[sub] {
					seen[sub] = true
					below = append(below, sub)
				}
			}
		}
		level = below
	}
	return f
}

// expand makes a request's group into streams.
func (r *run) expand(q *request, emails map[string][]int32) {
	f := r.flatten(q.group, true)
	first := r.add(q.source)
	family := r.sources[first].family
	// through is the source of people who are in the group by another one.
	through := func(id string) int32 {
		if id == q.group {
			return first
		}
		s := q.source
		s.family = family
		s.reason.Detail = "through " + id
		return r.add(s)
	}
	for i := range f.parts {
		g := &f.parts[i]
		if len(g.Users) == 0 {
			continue
		}
		st := r.groupOf[g.ID]
		if st == nil {
			st = &groupStream{ids: g.Users}
			r.groupOf[g.ID] = st
			r.streams = append(r.streams, st)
		}
		st.sources = append(st.sources, through(g.ID))
	}
	if f.everyone {
		if r.everyone == nil {
			r.everyone = &everyoneStream{dir: r.dir, chunk: r.chunk}
			r.streams = append(r.streams, r.everyone)
		}
		r.everyone.sources = append(r.everyone.sources, first)
	}
	for i := range f.addressed {
		g := &f.addressed[i]
		s := q.source
		s.group = g.ID
		s.reason.Detail = "told at the group's own address"
		if g.ID != q.group {
			s.reason.Detail = "told at the address of " + g.ID
		}
		a := belfry.NormaliseEmail(g.Address)
		emails[a] = append(emails[a], r.add(s))
	}
	refuse := func(id, code string) {
		if q.source.deny != nil {
			return // does not count anyway
		}
		s := q.source
		s.deny = &belfry.Reason{Code: code, Subscription: s.reason.Subscription, Group: id}
		r.name(id, s)
	}
	for _, id := range f.unknown {
		refuse(id, belfry.GroupUnknown)
	}
	for _, id := range f.tooDeep {
		refuse(id, belfry.GroupTooDeep)
	}
}

// placeEmails gives each address to the user who has it, or keeps it as one.
func (r *run) placeEmails(emails map[string][]int32) error {
	if len(emails) == 0 {
		return nil
	}
	all := make([]string, 0, len(emails))
	for a := range emails {
		all = append(all, a)
	}
	slices.Sort(all)
	users, err := r.dir.PersonsByEmail(all)
	if err != nil {
		return err
	}
	// An address that opted out stays so when somebody turns out to have it.
	outs := map[int]*optOutStream{}
	for _, a := range all {
		for _, n := range emails[a] {
			s := &r.sources[n]
			if outs[s.match] == nil {
				outs[s.match] = &optOutStream{dir: r.dir, chunk: memberChunk, match: s.match, subscription: r.matches[s.match].Subscription.ID}
			}
			out, err := outs[s.match].has(a)
			if err != nil {
				return err
			}
			if out && s.deny == nil {
				s.deny = &belfry.Reason{Code: belfry.OptedOut, Subscription: s.reason.Subscription}
			}
		}
	}
	for _, a := range all {
		if id, ok := users[a]; ok && id != "" {
			for _, n := range emails[a] {
				r.pairs = append(r.pairs, pair{id, n})
			}
			continue
		}
		r.addresses[a] = emails[a]
	}
	return nil
}
