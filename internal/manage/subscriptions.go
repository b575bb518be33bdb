package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/words"
)

// Stored is a subscription with what saving it found.
type Stored struct {
	belfry.Subscription
	Readable string   `json:"readable,omitempty" doc:"The rule in words, in the language of Accept-Language"`
	Filtered string   `json:"filter_readable,omitempty" doc:"The filter in words, in the language of Accept-Language; of GET"`
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but perhaps not meant"`

	known *facts // what Readable names; nil = it is not to be said
}

// SubscriptionQuery selects subscriptions in the order of their ids. Type and
// Object together ask which would be looked at for such an event there.
type SubscriptionQuery struct {
	Type   string
	Object string
	After  string
	Limit  int
}

// Bounds of a subscription.
const (
	maxTypes  = 200
	maxRules  = 100
	maxNamed  = 10_000 // users, groups and addresses of all rules and exclusions together
	maxNotify = 20

	maxAncestorTypes = 50
	maxTransitions   = 100
	maxVariables     = 20

	maxListPages = 200 // of the store's, looked through for one answer
)

// Subscription is one, in any state.
func (m *Manager) Subscription(ctx context.Context, tenant, id string) (Stored, error) {
	s, ok, err := m.store.Subscription(ctx, tenant, id)
	if err != nil {
		return Stored{}, err
	}
	if !ok {
		return Stored{}, notFound("subscription", id)
	}
	return m.describe(ctx, tenant, s)
}

// describe adds words and warnings.
func (m *Manager) describe(ctx context.Context, tenant string, s belfry.Subscription) (Stored, error) {
	known, err := m.gather(ctx, tenant, &s)
	if err != nil {
		return Stored{}, err
	}
	out := Stored{Subscription: s, Readable: readable(&s, known, words.For()), known: known}
	out.Warnings, err = m.warnings(ctx, tenant, &s, known)
	return out, err
}

// Subscriptions lists those that have not ended.
func (m *Manager) Subscriptions(ctx context.Context, tenant string, q SubscriptionQuery) ([]belfry.Subscription, string, error) {
	limit := q.Limit
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	var places map[string]int // scope -> distance; nil = everywhere
	if q.Object != "" {
		var err error
		if places, err = m.places(ctx, tenant, q.Object); err != nil {
			return nil, "", err
		}
	}
	const page = 1000
	out := []belfry.Subscription{}
	after := q.After
	for range maxListPages {
		subs, err := m.store.Subscriptions(ctx, tenant, after, page)
		if err != nil {
			return nil, "", err
		}
		for i := range subs {
			if subs[i].State == belfry.SubscriptionEnded || !wants(&subs[i], q.Type, places) {
				continue
			}
			if len(out) == limit {
				return out, out[limit-1].ID, nil
			}
			out = append(out, subs[i])
		}
		if len(subs) < page {
			return out, "", nil
		}
		after = subs[len(subs)-1].ID
	}
	return out, after, nil // a long way without a hit: the caller goes on from here
}

// places are the object and its ancestors with their distance.
func (m *Manager) places(ctx context.Context, tenant, object string) (map[string]int, error) {
	out := map[string]int{}
	for id := object; id != "" && id != belfry.RootObject; {
		if _, again := out[id]; again {
			break
		}
		out[id] = len(out)
		objects, err := m.store.Objects(ctx, tenant, []string{id})
		if err != nil {
			return nil, err
		}
		if _, ok := objects[id]; !ok && id == object {
			return nil, notFound("object", object)
		}
		id = objects[id].Parent
	}
	out[belfry.RootObject] = len(out)
	return out, nil
}

func wants(s *belfry.Subscription, typ string, places map[string]int) bool {
	if typ != "" && len(s.Types) > 0 && !slices.ContainsFunc(s.Types, func(p string) bool { return belfry.TypeMatches(p, typ) }) {
		return false
	}
	if places == nil {
		return true
	}
	distance, ok := places[s.ScopeObject()]
	switch s.Scope.Applies {
	case belfry.AppliesSelf:
		return ok && distance == 0
	case belfry.AppliesChildren:
		return ok && distance == 1
	}
	return ok
}

// CreateSubscription stores a new one; its id, state, origin and creation are
// the server's to say.
func (m *Manager) CreateSubscription(ctx context.Context, by By, s belfry.Subscription) (Stored, error) {
	if len(s.Filters) > 0 { // none of them may go meanwhile
		defer m.lock(by.Tenant)()
	}
	now := m.now()
	s.ID = belfry.NewID(belfry.SubscriptionPrefix, now)
	s.State, s.Because, s.Created, s.Version, s.Origin, s.Preset = belfry.SubscriptionActive, "", now, 0, belfry.FromAdmin, ""
	known, err := m.checkSubscription(ctx, by.Tenant, &s)
	if err != nil {
		return Stored{}, err
	}
	return m.saveSubscription(ctx, by, "subscription.create", s, 0, known)
}

// PutSubscription replaces what is given by people; id, state, origin and
// creation stay.
func (m *Manager) PutSubscription(ctx context.Context, by By, s belfry.Subscription, match Expect) (Stored, error) {
	if len(s.Filters) > 0 { // none of them may go meanwhile
		defer m.lock(by.Tenant)()
	}
	known, err := m.checkSubscription(ctx, by.Tenant, &s)
	if err != nil {
		return Stored{}, err
	}
	return retry(match, func() (Stored, error) {
		old, err := m.living(ctx, by.Tenant, s.ID, match)
		if err != nil {
			return Stored{}, err
		}
		if old.Preset != "" {
			return Stored{}, belfry.Errorf(belfry.Conflict, "subscription %s is preset %s at %s: pause it, switch it off, or edit the preset for all with PUT /v1/presets/%s", s.ID, old.Preset, old.ScopeObject(), old.Preset)
		}
		if s.State != "" && s.State != old.State {
			return Stored{}, belfry.Faults([]belfry.Field{{Pointer: "/state", Message: "is changed by /pause, /resume and DELETE, not here"}})
		}
		next := s
		next.State, next.Because, next.Created, next.Origin, next.Preset = old.State, old.Because, old.Created, old.Origin, ""
		return m.saveSubscription(ctx, by, "subscription.put", next, old.Version, known)
	})
}

// living is a subscription that has not ended, of the expected version.
func (m *Manager) living(ctx context.Context, tenant, id string, match Expect) (belfry.Subscription, error) {
	s, ok, err := m.store.Subscription(ctx, tenant, id)
	switch {
	case err != nil:
		return s, err
	case !ok:
		return s, notFound("subscription", id)
	case match != nil && *match != s.Version:
		return s, belfry.Errorf(belfry.Stale, "subscription %s was changed meanwhile: read it again and repeat the edit", id)
	case s.State == belfry.SubscriptionEnded:
		return s, belfry.Errorf(belfry.Conflict, "subscription %s has ended: make a new one", id)
	}
	return s, nil
}

func (m *Manager) saveSubscription(ctx context.Context, by By, action string, s belfry.Subscription, version int64, known *facts) (Stored, error) {
	ch := m.change(by, action, s.ID)
	ch.Audit[0].Detail = s.Title
	ch.Subscriptions = []belfry.Subscription{s}
	ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindSubscription, Key: s.ID, Version: version}}
	v, err := m.store.Apply(ctx, ch)
	if err != nil {
		return Stored{}, err
	}
	s.Version = v
	out := Stored{Subscription: s, Readable: readable(&s, known, words.For()), known: known}
	out.Warnings, err = m.warnings(ctx, by.Tenant, &s, known)
	return out, err
}

// PauseSubscription stops it from matching until it is resumed.
func (m *Manager) PauseSubscription(ctx context.Context, by By, id, because string) (Stored, error) {
	return m.setState(ctx, by, id, belfry.SubscriptionPaused, reasonOr(because, "paused by "+by.Who), nil)
}

// ResumeSubscription lets it match again.
func (m *Manager) ResumeSubscription(ctx context.Context, by By, id string) (Stored, error) {
	return m.setState(ctx, by, id, belfry.SubscriptionActive, "", nil)
}

// DeleteSubscription ends it for good. It is kept for the traces of what it
// told; ending it again changes nothing.
func (m *Manager) DeleteSubscription(ctx context.Context, by By, id string, match Expect) error {
	s, ok, err := m.store.Subscription(ctx, by.Tenant, id)
	if err != nil {
		return err
	}
	if ok && s.State == belfry.SubscriptionEnded {
		return nil
	}
	_, err = m.setState(ctx, by, id, belfry.SubscriptionEnded, "ended by "+by.Who, match)
	return err
}

func reasonOr(because, or string) string {
	if because = strings.TrimSpace(because); because != "" {
		return because
	}
	return or
}

var stateActions = map[string]string{
	belfry.SubscriptionActive: "subscription.resume",
	belfry.SubscriptionPaused: "subscription.pause",
	belfry.SubscriptionEnded:  "subscription.end",
}

func (m *Manager) setState(ctx context.Context, by By, id, state, because string, match Expect) (Stored, error) {
	f := &faults{}
	f.line("/because", because, maxName)
	if err := f.err(); err != nil {
		return Stored{}, err
	}
	if state == belfry.SubscriptionActive {
		defer m.lock(by.Tenant)() // none of the filters it names may go meanwhile
	}
	return retry(match, func() (Stored, error) {
		s, err := m.living(ctx, by.Tenant, id, match)
		if err != nil {
			return Stored{}, err
		}
		if state == belfry.SubscriptionActive && s.State == state {
			return m.describe(ctx, by.Tenant, s)
		}
		if state == belfry.SubscriptionActive {
			f := &faults{}
			if m.combine(ctx, f, by.Tenant, &s, nil); f.err() != nil {
				return Stored{}, belfry.Errorf(belfry.Conflict, "subscription %s cannot be resumed: %s; or take the filter off it", id, f.list[0].Message)
			}
		}
		version := s.Version
		s.State, s.Because = state, because
		known, err := m.gather(ctx, by.Tenant, &s)
		if err != nil {
			return Stored{}, err
		}
		return m.saveSubscription(ctx, by, stateActions[state], s, version, known)
	})
}

// facts are what a subscription refers to.
type facts struct {
	object    *belfry.Object // of the scope; nil = the root, or not there
	persons   map[string]*belfry.Person
	groups    map[string]belfry.Group
	endpoints map[string]bool
	templates map[string]bool
	schemas   []json.RawMessage // of the data of its event types
}

// labels are what its event types call the data, in a language.
func (k *facts) labels(language string) expr.Labels { return labelsOf(k.schemas, language) }

// gather reads what s refers to.
func (m *Manager) gather(ctx context.Context, tenant string, s *belfry.Subscription) (*facts, error) {
	k := &facts{endpoints: map[string]bool{}, templates: map[string]bool{}}
	if id := s.ScopeObject(); id != belfry.RootObject {
		objects, err := m.store.Objects(ctx, tenant, []string{id})
		if err != nil {
			return nil, err
		}
		if o, ok := objects[id]; ok && o.Deleted == nil {
			k.object = &o
		}
	}
	users, groups := named(s)
	var err error
	if users = distinct(users); len(users) > 0 {
		if k.persons, err = m.store.Persons(ctx, tenant, users); err != nil {
			return nil, err
		}
	}
	if groups = distinct(groups); len(groups) > 0 {
		if k.groups, err = m.store.Groups(ctx, tenant, groups); err != nil {
			return nil, err
		}
	}
	if s.WholeFilter() != "" {
		var err error
		if k.schemas, err = m.schemas(ctx, tenant, s.Types); err != nil {
			return nil, err
		}
	}
	for _, n := range s.Notify {
		for _, d := range []struct {
			kind, id string
			into     map[string]bool
		}{{belfry.KindEndpoint, n.Endpoint, k.endpoints}, {belfry.KindTemplate, n.Template, k.templates}} {
			if d.id == "" {
				continue
			}
			if _, d.into[d.id], err = m.store.Document(ctx, tenant, d.kind, d.id); err != nil {
				return nil, err
			}
		}
	}
	return k, nil
}

// named lists the users and groups a subscription speaks of.
func named(s *belfry.Subscription) (users, groups []string) {
	if s.Owner != "" {
		users = append(users, s.Owner)
	}
	for _, r := range s.Recipients {
		if r.Explicit != nil {
			users = append(users, r.Explicit.Users...)
			groups = append(groups, r.Explicit.Groups...)
		}
	}
	return append(users, s.Exclude.Users...), groups
}

// checkSubscription normalises s and refuses what cannot be meant.
func (m *Manager) checkSubscription(ctx context.Context, tenant string, s *belfry.Subscription) (*facts, error) {
	f := &faults{}
	f.line("/title", s.Title, maxName)
	f.line("/owner", s.Owner, maxID)
	if s.Scope.Object == belfry.RootObject {
		s.Scope.Object = ""
	}
	f.line("/scope/object", s.Scope.Object, maxID)
	if s.Scope.Applies != "" {
		f.choice("/scope/applies", s.Scope.Applies, belfry.AppliesSubtree, belfry.AppliesSelf, belfry.AppliesChildren)
	}
	if len(s.Types) > maxTypes {
		f.add("/types", "has %d entries: at most %d are allowed; a prefix such as core.* stands for many", len(s.Types), maxTypes)
	} else {
		for i, t := range s.Types {
			f.pattern("/types/"+strconv.Itoa(i), t)
		}
	}
	if len(s.ObjectTypes) > maxTypes {
		f.add("/object_types", "has %d entries: at most %d are allowed", len(s.ObjectTypes), maxTypes)
	} else {
		for i, t := range s.ObjectTypes {
			f.key("/object_types/"+strconv.Itoa(i), t, 100)
		}
	}
	checkFilter(f, s)
	m.combine(ctx, f, tenant, s, nil)
	checkRecipients(f, s)
	checkCondition(f, s)
	checkJoining(f, "/joining", &s.Joining)
	if err := f.err(); err != nil { // before ids are looked up: there may be very many
		return nil, err
	}
	known, err := m.gather(ctx, tenant, s)
	if err != nil {
		return nil, err
	}
	if s.Scope.Object != "" && known.object == nil {
		f.add("/scope/object", "there is no object %q: put it first", s.Scope.Object)
	}
	f.frequency("/frequency", s.Frequency)
	m.checkChannels(f, tenant, "/fallback", s.Fallback)
	f.throttle(s.Throttle)
	m.checkAcknowledge(f, tenant, s.Acknowledge)
	m.checkNotify(f, tenant, s, known)
	return known, f.err()
}

func checkFilter(f *faults, s *belfry.Subscription) {
	if strings.TrimSpace(s.Filter) == "" {
		s.Filter = ""
		return
	}
	checkExpression(f, "/filter", s.Filter)
}

// checkExpression refuses a filter that does not compile.
func checkExpression(f *faults, pointer, filter string) {
	_, err := expr.Compile(filter)
	f.source(pointer, err)
}

// source notes what is wrong with an expression that was compiled.
func (f *faults) source(pointer string, err error) {
	var src *expr.SourceError
	switch {
	case err == nil:
	case errors.As(err, &src):
		for _, fault := range src.Faults {
			f.add(pointer, "%s", fault.String())
		}
	default:
		f.add(pointer, "%s", err)
	}
}

func checkRecipients(f *faults, s *belfry.Subscription) {
	if len(s.Recipients) > maxRules {
		f.add("/recipients", "has %d rules: at most %d are allowed", len(s.Recipients), maxRules)
		return
	}
	total := len(s.Exclude.Users) + len(s.Exclude.Emails)
	for i := range s.Recipients {
		r := &s.Recipients[i]
		p := "/recipients/" + strconv.Itoa(i)
		parts := 0
		if r.Explicit != nil {
			parts++
			total += len(r.Explicit.Users) + len(r.Explicit.Groups) + len(r.Explicit.Emails)
		}
		if r.Role != nil {
			parts++
			checkRole(f, p+"/role", r.Role)
		}
		if r.Workflow != nil {
			parts++
			checkWorkflow(f, p+"/workflow", r.Workflow)
		}
		if r.Computed != nil {
			parts++
			checkComputed(f, p+"/computed", r.Computed)
		}
		if r.Related != nil {
			parts++
			checkRelated(f, p+"/related", r.Related)
		}
		if parts != 1 {
			f.add(p, "must have exactly one of explicit, role, workflow, computed, related; it has %d", parts)
		}
	}
	if total > maxNamed {
		f.add("/recipients", "names %d users, groups and addresses: at most %d are allowed; put them into a group", total, maxNamed)
		return
	}
	for i := range s.Recipients {
		if e := s.Recipients[i].Explicit; e != nil {
			p := "/recipients/" + strconv.Itoa(i) + "/explicit"
			if len(e.Users)+len(e.Groups)+len(e.Emails) == 0 {
				f.add(p, "names nobody: give users, groups or emails")
			}
			keys(f, p+"/users", e.Users)
			keys(f, p+"/groups", e.Groups)
			emails(f, p+"/emails", e.Emails)
		}
	}
	keys(f, "/exclude/users", s.Exclude.Users)
	emails(f, "/exclude/emails", s.Exclude.Emails)
}

func keys(f *faults, p string, ids []string) {
	for i, id := range ids {
		f.key(p+"/"+strconv.Itoa(i), id, maxID)
	}
}

func emails(f *faults, p string, list []string) {
	for i, e := range list {
		if f.key(p+"/"+strconv.Itoa(i), e, 254) {
			f.email(p+"/"+strconv.Itoa(i), strings.TrimSpace(e))
		}
	}
}

func checkRole(f *faults, p string, r *belfry.RoleRule) {
	if len(r.Roles) == 0 {
		f.add(p+"/roles", "name at least one role")
	}
	if len(r.Roles) > 100 {
		f.add(p+"/roles", "has %d entries: at most 100 are allowed", len(r.Roles))
		return
	}
	for i, role := range r.Roles {
		f.key(p+"/roles/"+strconv.Itoa(i), role, 100)
	}
	ancestor := false
	for i, o := range r.Origins {
		ancestor = ancestor || strings.HasPrefix(o, "ancestor_")
		f.choice(p+"/origins/"+strconv.Itoa(i), o, belfry.OriginLocal, belfry.OriginMerged, belfry.OriginAncestorLocal, belfry.OriginAncestorMerged)
	}
	checkAncestors(f, p, r.AncestorTypes, ancestor, "the origins ancestor_local and ancestor_merged")
	if r.On != "" {
		f.choice(p+"/on", r.On, belfry.OnObject, belfry.OnContainer, belfry.OnDestination)
	}
}

// checkAncestors checks the types of the closest ancestor, which go with the
// origins that look for one.
func checkAncestors(f *faults, p string, types []string, asked bool, by string) {
	switch {
	case asked && len(types) == 0:
		f.add(p+"/ancestor_types", "is needed by %s: name the object types of which the closest one above counts", by)
	case !asked && len(types) > 0:
		f.add(p+"/ancestor_types", "is read by %s only: leave it out, or add one to origins", by)
	case len(types) > maxAncestorTypes:
		f.add(p+"/ancestor_types", "has %d entries: at most %d are allowed", len(types), maxAncestorTypes)
		return
	}
	keyList(f, p+"/ancestor_types", types)
}

func keyList(f *faults, p string, list []string) {
	for i, s := range list {
		f.key(p+"/"+strconv.Itoa(i), s, 100)
	}
}

func checkWorkflow(f *faults, p string, r *belfry.WorkflowRule) {
	for i, o := range r.Origins {
		f.choice(p+"/origins/"+strconv.Itoa(i), o, belfry.OriginContext, belfry.OriginContainer, belfry.OriginAncestor)
	}
	checkAncestors(f, p, r.AncestorTypes, slices.Contains(r.Origins, belfry.OriginAncestor), "the origin ancestor")
	if r.Lookup != "" {
		f.choice(p+"/lookup", r.Lookup, belfry.LookupLast, belfry.LookupAll)
	}
	if r.History != "" {
		f.choice(p+"/history", r.History, belfry.HistoryLocal, belfry.HistoryGlobal)
	}
	if len(r.Transitions) > maxTransitions {
		f.add(p+"/transitions", "has %d entries: at most %d are allowed; - first means all but these", len(r.Transitions), maxTransitions)
	} else {
		for i, name := range r.Transitions {
			tp := p + "/transitions/" + strconv.Itoa(i)
			f.key(tp, name, maxType)
			switch {
			case name == "-" && i > 0:
				f.add(tp, "- comes first, and then means all but the others")
			case name == "*" && r.Transitions[0] == "-":
				f.add(tp, "all but all is none: leave out the - or the *")
			}
		}
	}
	if len(r.Variables) > maxVariables {
		f.add(p+"/variables", "has %d entries: at most %d are allowed", len(r.Variables), maxVariables)
		return
	}
	for i, name := range r.Variables {
		vp := p + "/variables/" + strconv.Itoa(i)
		if f.key(vp, name, maxType) && badPath(name) {
			f.add(vp, "is actor, or names in the variables of a step with dots between them, as in reviewers or stack.next")
		}
	}
}

func checkComputed(f *faults, p string, r *belfry.ComputedRule) {
	_, err := expr.CompileRecipients(r.Expression)
	f.source(p+"/expression", err)
	asked := len(r.AncestorTypes) > 0 || err == nil && expr.ReadsAncestor(r.Expression)
	checkAncestors(f, p, r.AncestorTypes, asked, "the variable ancestor")
}

// badPath reports whether a dotted path has an empty part.
func badPath(path string) bool {
	return strings.HasPrefix(path, ".") || strings.HasSuffix(path, ".") || strings.Contains(path, "..")
}

func checkRelated(f *faults, p string, r *belfry.RelatedRule) {
	f.line(p+"/path", r.Path, maxType)
	if badPath(r.Path) {
		f.add(p+"/path", "is \"related\", or names in the event's data with dots between them, as in assignee.id")
	}
}

func (m *Manager) checkNotify(f *faults, tenant string, s *belfry.Subscription, known *facts) {
	if len(s.Notify) > maxNotify {
		f.add("/notify", "has %d entries: at most %d are allowed", len(s.Notify), maxNotify)
		return
	}
	for i, n := range s.Notify {
		p := "/notify/" + strconv.Itoa(i)
		if n.Endpoint != "" && (len(n.Channels) > 0 || n.Template+n.Subject+n.Body+n.Message+n.Attach != "") {
			f.add(p, "either calls an endpoint or tells people by channels: make two entries")
		}
		if n.Endpoint != "" && !known.endpoints[n.Endpoint] {
			f.add(p+"/endpoint", "there is no endpoint %q: create it with POST /v1/endpoints", n.Endpoint)
		}
		if n.Template != "" && !known.templates[n.Template] {
			f.add(p+"/template", "there is no template %q: put it with PUT /v1/templates", n.Template)
		}
		m.checkChannels(f, tenant, p+"/channels", n.Channels)
		m.checkScript(f, p, &n)
		f.wording(p, &n)
	}
	f.sender("/sender", s.Sender)
}

// crowd is from how many filters on that are evaluated one by one a further one
// is warned of: together they take about a millisecond an event.
const crowd = 1000

// warnings say what is allowed but perhaps not meant.
func (m *Manager) warnings(ctx context.Context, tenant string, s *belfry.Subscription, known *facts) ([]string, error) {
	var out []string
	warn := func(format string, args ...any) {
		if len(out) < 20 {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	calls := slices.ContainsFunc(s.Notify, func(n belfry.Notify) bool {
		return n.Endpoint != "" || n.Script != "" && n.Per != belfry.PerRecipient
	})
	tells := len(s.Notify) == 0 || slices.ContainsFunc(s.Notify, func(n belfry.Notify) bool { return n.NamesPeople() })
	if len(s.Recipients) == 0 {
		members, err := m.store.Members(ctx, tenant, s.ID, "", 1)
		if err != nil {
			return nil, err
		}
		if len(members) == 0 && !calls {
			warn("it names nobody: no rule, no member, no endpoint, no script")
		}
	} else if !tells {
		warn("its rules name people, but notify only calls endpoints or runs scripts: add {\"channels\":[]} to tell them too")
	}
	for _, w := range conditionWarnings(s) {
		warn("%s", w)
	}
	if s.Scope.Object != "" && known.object == nil {
		warn("its object %s is not there", s.Scope.Object)
	}
	for _, t := range s.Types {
		if strings.HasSuffix(t, "*") {
			continue
		}
		doc, ok, err := m.store.Document(ctx, tenant, belfry.KindEventType, t)
		if err != nil {
			return nil, err
		}
		if !ok {
			warn("no event of type %s was declared or seen yet", t)
			continue
		}
		var et belfry.EventType
		if json.Unmarshal(doc.Body, &et) == nil {
			if et.Deprecated {
				warn("event type %s is deprecated", t)
			}
			for _, n := range s.Notify {
				for _, c := range n.Channels {
					if slices.Contains(et.Channels.Forbidden, c) {
						warn("an administrator forbids channel %s for event type %s", c, t)
					}
				}
			}
		}
	}
	users, groups := named(s)
	for _, u := range distinct(users) {
		switch p := known.persons[u]; {
		case p == nil:
			warn("user %s is not known yet", u)
		case p.User.State == belfry.UserDeleted:
			warn("user %s is deleted", u)
		}
	}
	for _, g := range distinct(groups) {
		if _, ok := known.groups[g]; !ok && !pseudo(g) {
			warn("group %s is not known yet", g)
		}
	}
	strange, err := m.strangeRoles(ctx, tenant, rolesOf(s))
	if err != nil {
		return nil, err
	}
	for _, w := range strange {
		warn("%s", w)
	}
	for id, ok := range known.endpoints {
		if !ok {
			warn("endpoint %s is not there", id)
		}
	}
	if n := m.crowds.Crowd(tenant, s); n >= crowd {
		warn("its filter is evaluated for each event of its types here, as those of %d others are: join it by && with an equality such as event.data.course == 'CPR', by which it can be looked up", n)
	}
	slices.Sort(out)
	return out, nil
}
