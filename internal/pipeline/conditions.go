package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/condition"
	"github.com/belfryhq/belfry/internal/directory"
)

// ConditionStore is what Conditions works on.
type ConditionStore interface {
	DueGroups(ctx context.Context, tenant string, now time.Time, shards []int, limit int) ([]belfry.ConditionGroup, error)
	NextLook(ctx context.Context, tenant string, shards []int) (time.Time, error)
	// NextLooks is NextLook of all tenants that have one.
	NextLooks(ctx context.Context, shards []int) (map[string]time.Time, error)
	Observations(ctx context.Context, g *belfry.ConditionGroup, from time.Time, limit int) ([]belfry.Observed, error)
	ObservationsBefore(ctx context.Context, g *belfry.ConditionGroup, after, before time.Time, limit int) ([]belfry.Observed, error)
	OldestPlan(ctx context.Context, tenant string) (time.Time, error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	StepConditions(ctx context.Context, steps []belfry.ConditionStep) (receipts [][]belfry.Receipt, applied []bool, err error)
	LookAgain(ctx context.Context, tenant, subscription string, asOf int64) error
	DropCondition(ctx context.Context, g *belfry.ConditionGroup, n int) (more bool, err error)
	DropObservations(ctx context.Context, g *belfry.ConditionGroup, before time.Time, n int) (int, error)
}

// Drafter makes drafts of the server's own events, and takes over what was
// accepted.
type Drafter interface {
	Draft(ctx context.Context, tenant string, events []belfry.Event) ([]belfry.Draft, error)
	Handover(accepted []belfry.Accepted)
}

// ConditionsOptions are the parts Conditions works with; all are needed.
type ConditionsOptions struct {
	Store         ConditionStore
	Subscriptions *Subscriptions
	Directory     *directory.Directory
	In            In
	Events        Drafter
	Shards        Shards
	Counters      *Counters
	Log           *slog.Logger
	Now           func() time.Time
	Poll          time.Duration // look by itself at least so often
}

// Conditions looks at the groups of conditions: when something came, when a
// time is up, when a subscription was edited. Where several processes share the
// database each looks at the groups of its plan shards. Two that look at one
// group at once do no harm: a look counts only if nobody has looked since the
// group was read, and the event that says a condition was met is accepted in
// the transaction that moves the group on.
type Conditions struct {
	o    ConditionsOptions
	wake chan struct{}

	mu   sync.Mutex
	next map[string]time.Time // by tenant: when to look; zero = now
	all  bool                 // of every tenant
}

// NewConditions makes a Conditions; nothing is looked at before Run.
func NewConditions(o ConditionsOptions) *Conditions {
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	return &Conditions{o: o, wake: make(chan struct{}, 1), next: map[string]time.Time{}, all: true}
}

// Look makes the conditions of a tenant be looked at now.
func (c *Conditions) Look(tenant string) {
	c.at(tenant, time.Time{})
	c.poke()
}

// LookAll makes all conditions be looked at now: shards were gained, or what
// others told was not heard.
func (c *Conditions) LookAll() {
	c.mu.Lock()
	c.all = true
	c.mu.Unlock()
	c.poke()
}

func (c *Conditions) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// at notes when to look at a tenant's conditions, unless it is sooner already.
func (c *Conditions) at(tenant string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.next[tenant]; !ok || at.Before(have) {
		c.next[tenant] = at
	}
}

// Run looks until ctx ends.
func (c *Conditions) Run(ctx context.Context) error {
	survey := time.NewTicker(c.o.Poll)
	defer survey.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		case <-survey.C:
			c.mu.Lock()
			c.all = true
			c.mu.Unlock()
		}
		c.round(ctx)
		if wait, any := c.wait(); any {
			timer.Reset(wait)
		}
	}
}

// round looks at the conditions whose time it is.
func (c *Conditions) round(ctx context.Context) {
	for _, tenant := range c.due(ctx) {
		next, err := c.tenant(ctx, tenant)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.o.Log.Error("looking at conditions", "tenant", tenant, "error", err)
			c.at(tenant, c.o.Now().Add(time.Second))
		case !next.IsZero():
			c.at(tenant, next)
		}
	}
}

// due takes the tenants whose time it is.
func (c *Conditions) due(ctx context.Context) []string {
	c.mu.Lock()
	all := c.all
	c.all = false
	c.mu.Unlock()
	if all {
		next, err := c.o.Store.NextLooks(ctx, c.o.Shards.Mine(belfry.LeasePlan))
		if err != nil && ctx.Err() == nil {
			c.o.Log.Error("looking at conditions", "error", err)
		}
		for tenant, at := range next {
			c.at(tenant, at)
		}
	}
	now := c.o.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for t, at := range c.next {
		if !at.After(now) {
			list = append(list, t)
			delete(c.next, t)
		}
	}
	slices.Sort(list)
	return list
}

// wait is how long nothing is to be done.
func (c *Conditions) wait() (time.Duration, bool) {
	now := c.o.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	first, any := time.Time{}, false
	for _, at := range maps.All(c.next) {
		if !any || at.Before(first) {
			first, any = at, true
		}
	}
	return max(0, first.Sub(now)), any
}

// Bounds of one look.
const (
	looksAtOnce  = 256     // groups
	freshAtOnce  = 2000    // observations of a group
	mostFresh    = 200_000 // of one moment
	countedAlong = 1000    // observations before that a firing counts, beyond those it needs
	dropAtOnce   = 1000
)

// tenant looks at all groups that are due, and says when the next one is.
func (c *Conditions) tenant(ctx context.Context, tenant string) (time.Time, error) {
	shards := c.o.Shards.Mine(belfry.LeasePlan)
	for {
		groups, err := c.o.Store.DueGroups(ctx, tenant, c.o.Now(), shards, looksAtOnce)
		if err != nil {
			return time.Time{}, err
		}
		if len(groups) == 0 {
			return c.o.Store.NextLook(ctx, tenant, shards)
		}
		if err := c.look(ctx, groups); err != nil {
			return time.Time{}, err
		}
	}
}

// look looks at groups and records what was found.
func (c *Conditions) look(ctx context.Context, groups []belfry.ConditionGroup) error {
	steps := make([]belfry.ConditionStep, 0, len(groups))
	for i := range groups {
		g := &groups[i]
		step, err := c.step(ctx, g)
		if err != nil && (belfry.KindOf(err) == belfry.Unavailable || ctx.Err() != nil) {
			return err
		}
		if err != nil { // one that cannot be looked at must not hold up the others
			c.o.Log.Error("looking at a condition; it is tried again in a minute", "tenant", g.Tenant, "subscription", g.Subscription, "group", g.Group, "error", err)
			step = &belfry.ConditionStep{Of: *g, Low: g.Low, Due: c.o.Now().Add(time.Minute), State: g.State}
		}
		if step != nil {
			steps = append(steps, *step)
		}
	}
	if len(steps) == 0 {
		return nil
	}
	receipts, applied, err := c.o.Store.StepConditions(context.WithoutCancel(ctx), steps)
	if err != nil {
		return err
	}
	var accepted []belfry.Accepted
	for i := range steps {
		if !applied[i] {
			continue // somebody else has looked: the group says what is to be done
		}
		for k, r := range receipts[i] {
			d := &steps[i].Drafts[k]
			if !r.Duplicate {
				accepted = append(accepted, belfry.Accepted{Tenant: d.Tenant, EventID: r.EventID, At: r.At, AsOf: r.AsOf, Event: d.Event, Body: d.Body})
			}
		}
	}
	if len(accepted) > 0 {
		c.o.Counters.ConditionsMet.Add(int64(len(accepted)))
		c.o.Events.Handover(accepted)
	}
	return nil
}

// step looks at one group; nil when nothing is to be recorded.
func (c *Conditions) step(ctx context.Context, g *belfry.ConditionGroup) (*belfry.ConditionStep, error) {
	if err := c.o.In.Reach(ctx, g.Tenant, g.AsOf); err != nil {
		return nil, err
	}
	sub, idle, err := c.o.Subscriptions.Standing(ctx, g.Tenant, g.Subscription)
	if err != nil {
		return nil, err
	}
	if sub == nil || idle != nil || sub.Condition == nil {
		return c.gone(ctx, g)
	}
	spec, faults := condition.Parse(sub.Condition)
	var st condition.State
	if len(g.State) > 0 {
		if err := json.Unmarshal(g.State, &st); err != nil {
			c.o.Log.Error("the state of a condition cannot be read; it begins anew", "subscription", g.Subscription, "group", g.Group, "error", err)
			st = condition.State{}
		}
	}
	if g.Group == "" {
		form, err := json.Marshal(sub.Condition)
		if err != nil {
			return nil, err
		}
		if st.Form != "" && st.Form != string(form) {
			if err := c.o.Store.LookAgain(ctx, g.Tenant, g.Subscription, g.AsOf); err != nil {
				return nil, err
			}
		}
		st.Form = string(form)
	}
	if len(faults) > 0 || g.Group == "" && spec.Grouped && g.Low.IsZero() && st.Seen.IsZero() {
		return recorded(g, condition.Found{State: st}) // there is nothing to look at
	}
	look, err := c.gather(ctx, g, &spec, &st)
	if err != nil {
		return nil, err
	}
	if spec.Absence() {
		held, err := c.held(ctx, g, sub.ScopeObject())
		if err != nil {
			return nil, err
		}
		if held {
			var f condition.Found
			f.State, f.Due = spec.Hold(st, look.Now)
			return recorded(g, f)
		}
	}
	f := spec.Look(st, *look)
	if ready, err := c.complete(ctx, g, &spec, &f); err != nil || !ready {
		f := condition.Found{State: st, Low: g.Low, Due: look.Now.Add(time.Second)}
		if err != nil {
			return nil, err
		}
		return recorded(g, f)
	}
	if err := c.prune(ctx, g, &spec, &f, look.Now); err != nil {
		return nil, err
	}
	if g.Group == "" && f.Forget { // it stays as long as the condition is there
		f.Forget, f.Due = false, time.Time{}
	}
	step, err := recorded(g, f)
	if err != nil || len(f.Firings) == 0 {
		return step, err
	}
	return c.fire(ctx, step, sub, &spec, &f)
}

// recorded is a step that keeps what was found.
func recorded(g *belfry.ConditionGroup, f condition.Found) (*belfry.ConditionStep, error) {
	state, err := json.Marshal(f.State)
	return &belfry.ConditionStep{Of: *g, Low: f.Low, Due: f.Due, State: state, Drop: f.Forget && len(f.Firings) == 0}, err
}

// gone lets go of what is kept of a condition that is not there any more.
func (c *Conditions) gone(ctx context.Context, g *belfry.ConditionGroup) (*belfry.ConditionStep, error) {
	if g.Group != "" {
		for {
			n, err := c.o.Store.DropObservations(ctx, g, time.UnixMicro(1<<62), dropAtOnce)
			if err != nil || n < dropAtOnce {
				return &belfry.ConditionStep{Of: *g, Drop: true}, err
			}
		}
	}
	for {
		more, err := c.o.Store.DropCondition(ctx, g, dropAtOnce)
		if err != nil || !more {
			return nil, err
		}
	}
}

// gather reads what a look needs.
func (c *Conditions) gather(ctx context.Context, g *belfry.ConditionGroup, spec *condition.Spec, st *condition.State) (*condition.Look, error) {
	l := &condition.Look{Now: c.o.Now()}
	low := g.Low
	if low.IsZero() {
		return l, nil
	}
	var err error
	for limit := freshAtOnce; ; limit *= 4 {
		if l.Fresh, err = c.o.Store.Observations(ctx, g, low, limit); err != nil {
			return nil, err
		}
		n := len(l.Fresh)
		l.More = n == limit
		// The next look goes on at the last one's time: it must not be the first.
		if !l.More || !l.Fresh[0].At.Equal(l.Fresh[n-1].At) {
			break
		}
		if n >= mostFresh {
			l.More = false // as many in one moment change nothing more
			break
		}
	}
	if spec.Count > 0 && len(l.Fresh) > 0 {
		l.Before, err = c.o.Store.ObservationsBefore(ctx, g, spec.Window(st, low), low, max(spec.Count-1, countedAlong))
	}
	return l, err
}

// held reports whether nothing can be expected to come: the object the
// subscription sits on, or one above it, is hidden or deleted.
func (c *Conditions) held(ctx context.Context, g *belfry.ConditionGroup, object string) (bool, error) {
	if object == belfry.RootObject {
		return false, nil
	}
	dir, err := c.o.Directory.At(ctx, g.Tenant, g.AsOf)
	if err != nil {
		return false, err
	}
	chain, err := dir.Ancestors(object)
	return slices.ContainsFunc(chain, func(o belfry.Object) bool { return o.Hidden || o.Deleted != nil }), err
}

// complete reports whether all events are planned that could still say that
// something did not fail to come.
func (c *Conditions) complete(ctx context.Context, g *belfry.ConditionGroup, spec *condition.Spec, f *condition.Found) (bool, error) {
	latest := time.Time{}
	for i := range f.Firings {
		if spec.Absence() && !f.Firings[i].Over {
			latest = f.Firings[i].At.Add(spec.Wait)
		}
	}
	if latest.IsZero() {
		return true, nil
	}
	oldest, err := c.o.Store.OldestPlan(ctx, g.Tenant)
	return oldest.IsZero() || oldest.After(latest), err
}

// prune removes observations that are out of reach.
func (c *Conditions) prune(ctx context.Context, g *belfry.ConditionGroup, spec *condition.Spec, f *condition.Found, now time.Time) error {
	before := now.Add(-spec.Reach() - time.Second)
	every := max(time.Minute, spec.Reach()/2)
	if !f.Forget && before.Sub(f.State.Pruned) < every {
		return nil
	}
	for {
		n, err := c.o.Store.DropObservations(ctx, g, before, dropAtOnce)
		if err != nil {
			return err
		}
		if n < dropAtOnce {
			f.State.Pruned = before
			return nil
		}
	}
}

// fire adds the events of what was found to a step.
func (c *Conditions) fire(ctx context.Context, step *belfry.ConditionStep, sub *belfry.Subscription, spec *condition.Spec, f *condition.Found) (*belfry.ConditionStep, error) {
	g := &step.Of
	var ids []string
	for i := range f.Firings {
		ids = append(ids, f.Firings[i].Events...)
	}
	slices.Sort(ids)
	known, err := c.o.Store.Events(ctx, g.Tenant, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	events := make([]belfry.Event, 0, len(f.Firings))
	for i := range f.Firings {
		e, err := derived(g, sub, spec, &f.Firings[i], known)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	step.Drafts, err = c.o.Events.Draft(ctx, g.Tenant, events)
	return step, err
}

// maxAlong is how much of the last event's data goes along, in bytes.
const maxAlong = 8 << 10

// derived is the event that says that a condition was met, or is over. It
// happened where all that counted happened, else where the subscription sits;
// it was done by who did all of it; what all of it was flagged it is too.
func derived(g *belfry.ConditionGroup, sub *belfry.Subscription, spec *condition.Spec, f *condition.Firing, known map[string]*belfry.Accepted) (belfry.Event, error) {
	met := conditionID(g, f.N)
	e := belfry.Event{Source: belfry.OwnSource, ID: met, Type: belfry.ConditionMet, Time: f.At, Object: sub.Scope.Object}
	data := belfry.ConditionData{
		Subscription: sub.ID, Title: sub.Title, Group: g.Group, Count: f.Count, Needed: spec.Count,
		Within: condition.Words(spec.Span), Firing: f.N, Events: f.Events,
	}
	if data.Events == nil {
		data.Events = []string{}
	}
	if !f.First.IsZero() {
		data.First = &f.First
	}
	if !f.Last.IsZero() {
		data.Last = &f.Last
	}
	if spec.Change() {
		data.Within, data.After = "", &f.After.Text
		if f.Before != nil {
			data.Before = &f.Before.Text
		}
		if data.Crossed = f.After.Side; data.Crossed != "" {
			data.Limit = spec.Limit(data.Crossed)
		}
	}
	if f.Over {
		e.ID, e.Type, e.Resolves, data.Met = met+"/over", belfry.ConditionResolved, met, met
	}
	common(&e, f.Events, known)
	if n := len(f.Events); n > 0 {
		if last := known[f.Events[n-1]]; last != nil {
			data.Event = along(last.Event)
		}
	}
	var err error
	e.Data, err = json.Marshal(&data)
	return e, err
}

// common gives e what all the events have in common.
func common(e *belfry.Event, ids []string, known map[string]*belfry.Accepted) {
	const most = 50 // people it is about
	var all []*belfry.Event
	for _, id := range ids {
		if acc := known[id]; acc != nil { // else it is too old to be there
			all = append(all, acc.Event)
		}
	}
	if len(all) == 0 {
		return
	}
	every := func(is func(*belfry.Event) bool) bool {
		return !slices.ContainsFunc(all, func(o *belfry.Event) bool { return !is(o) })
	}
	one := all[len(all)-1]
	if every(func(o *belfry.Event) bool { return o.ObjectOrRoot() == one.ObjectOrRoot() }) {
		e.Object = one.Object
	}
	if every(func(o *belfry.Event) bool { return o.Actor == one.Actor }) {
		e.Actor = one.Actor
	}
	for _, f := range []string{belfry.FlagLocalOnly, belfry.FlagNoLocal} {
		if every(func(o *belfry.Event) bool { return o.Has(f) }) {
			e.Flags = append(e.Flags, f)
		}
	}
	if !every(func(o *belfry.Event) bool { return !o.Has(belfry.FlagAnonymous) }) {
		e.Flags, e.Actor = append(e.Flags, belfry.FlagAnonymous), ""
	}
	for _, o := range all {
		for _, r := range o.Related {
			if len(e.Related) < most && !slices.Contains(e.Related, r) {
				e.Related = append(e.Related, r)
			}
		}
	}
}

// along is the part of an event that goes along.
func along(o *belfry.Event) *belfry.ConditionEvent {
	out := &belfry.ConditionEvent{Type: o.Type, Object: o.Object, Time: o.Time}
	if !o.Has(belfry.FlagAnonymous) {
		out.Actor = o.Actor
	}
	if len(o.Data) <= maxAlong {
		_ = json.Unmarshal(o.Data, &out.Data) // what is no object has no fields to name
	}
	return out
}

// conditionID is the id of the event that says that a condition was met for the
// nth time in a group since the group is watched.
func conditionID(g *belfry.ConditionGroup, n int) string {
	sum := sha256.Sum256([]byte(g.Group))
	return fmt.Sprintf("%s/%s/%s/%d", g.Subscription, hex.EncodeToString(sum[:8]), strconv.FormatInt(g.Born.UnixMicro(), 36), n)
}
