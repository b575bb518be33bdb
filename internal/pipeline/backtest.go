package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
	"github.com/belfryhq/belfry/internal/resolve"
)

// BacktestStore is what backtests read.
type BacktestStore interface {
	FindEvents(ctx context.Context, tenant string, f belfry.EventSelect, after string, limit int) ([]belfry.EventPlace, string, error)
	CountEvents(ctx context.Context, tenant string, f belfry.EventSelect) (int64, error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	PendingPlansOf(ctx context.Context, tenant string) (int64, error)
}

// Backtester runs one subscription over stored events by the stages that plan,
// without door 2. What happens now goes first: a step is a page of events, or
// backtestStep of work, and is followed by a pause as long as it took.
type Backtester struct {
	Stages *Stages
	Store  BacktestStore
	Now    func() time.Time
	turn   chan struct{} // holds a value while somebody waits for a short one

	mu   sync.Mutex
	runs map[string]*backtest // jobs at hand here, by id
}

// NewBacktester makes a Backtester.
func NewBacktester(stages *Stages, store BacktestStore, now func() time.Time) *Backtester {
	return &Backtester{Stages: stages, Store: store, Now: now, turn: make(chan struct{}, 1), runs: map[string]*backtest{}}
}

// Bounds of a backtest.
const (
	backtestPage    = 100                    // events read at once
	backtestStep    = 20 * time.Millisecond  // of work, then others come
	backtestShort   = 500 * time.Millisecond // that somebody waits for the answer
	backtestEvents  = 1_000_000
	backtestPeople  = 20_000 // told apart
	backtestCrowd   = 20_000 // people of one event that are gone through
	backtestMost    = 20     // shown
	backtestSamples = 10
	backtestFew     = 5 // people of a sample
	backtestRuns    = 16
)

// Short does a backtest at once; false when it takes too long for somebody to
// wait for it, or another one is being done.
func (b *Backtester) Short(ctx context.Context, tenant string, ask *belfry.Backtest) (*belfry.BacktestReport, bool, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	default:
		return nil, false, nil
	}
	run, err := b.begin(ctx, tenant, ask)
	if err != nil {
		return nil, false, err
	}
	for begun := b.Now(); !run.over; {
		at := b.Now()
		if at.Sub(begun) > backtestShort {
			return nil, false, nil
		}
		if err := b.step(ctx, run); err != nil {
			return nil, false, err
		}
		if !run.over && !sleep(ctx, b.Now().Sub(at)) {
			return nil, false, ctx.Err()
		}
	}
	return run.report(), true, nil
}

// Job does the next step of a job of kind belfry.BacktestJob. What was counted
// is in this process's memory: another that takes the job up counts anew.
func (b *Backtester) Job(ctx context.Context, j *belfry.Job) (belfry.JobStep, error) {
	step := belfry.JobStep{Cursor: j.Cursor, Done: j.Done, Total: j.Total, State: belfry.JobRunning}
	pending, err := b.Store.PendingPlansOf(ctx, j.Tenant)
	if err != nil {
		return step, err
	}
	if pending >= replayAhead {
		step.Wait, step.Recorded = replayWait, true
		return step, nil
	}
	run, err := b.runOf(ctx, j)
	if err != nil {
		return step, err
	}
	at := b.Now()
	if err := b.step(ctx, run); err != nil {
		return step, err
	}
	took := b.Now().Sub(at)
	step.Wait = took
	if run.worked += took; !run.over && run.worked < time.Second {
		step.Recorded = true // how far it is is told once a second
		return step, nil
	}
	run.worked = 0
	step.Cursor, step.Done, step.Total = fmt.Sprintf("%d/%s", j.Epoch, run.after), run.sum.Events, max(run.total, run.sum.Events)
	if !run.over {
		return step, nil
	}
	b.forget(j.ID)
	step.State, step.Total = belfry.JobDone, step.Done
	step.Result, err = json.Marshal(run.report())
	return step, err
}

// runOf is the count of a job so far.
func (b *Backtester) runOf(ctx context.Context, j *belfry.Job) (*backtest, error) {
	b.mu.Lock()
	run := b.runs[j.ID]
	b.mu.Unlock()
	if run != nil && run.epoch == j.Epoch {
		return run, nil
	}
	ask, err := params[belfry.Backtest](j)
	if err != nil {
		return nil, err
	}
	if run, err = b.begin(ctx, j.Tenant, &ask); err != nil {
		return nil, err
	}
	run.epoch = j.Epoch
	fresh := belfry.Job{}
	run.total = min(backtestEvents, total(ctx, &fresh, func(ctx context.Context) (int64, error) { return b.Store.CountEvents(ctx, j.Tenant, run.events) }))
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.runs) >= backtestRuns { // of jobs that were cancelled, or went to others
		clear(b.runs)
	}
	b.runs[j.ID] = run
	return run, nil
}

func (b *Backtester) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.runs, id)
}

// backtest is a count under way.
type backtest struct {
	tenant string
	sub    *belfry.Subscription
	subs   *match.Snapshot
	events belfry.EventSelect

	epoch  int64
	total  int64
	worked time.Duration // since progress was told
	after  string        // the event before the next one
	cursor string        // where the next page begins
	page   []*belfry.Accepted
	last   bool // there is no page after this one
	over   bool

	sum     belfry.BacktestReport
	people  map[string]*heard
	groups  map[string]*supposedGroup // of a condition
	samples []belfry.BacktestSample   // a ring
	next    int
}

// heard is what one person heard.
type heard struct{ all, week, inWeek, most int64 }

// begin looks up what a backtest works on. The whole of it is made with the
// subscriptions there are now.
func (b *Backtester) begin(ctx context.Context, tenant string, ask *belfry.Backtest) (*backtest, error) {
	snapshot, err := b.Stages.Subscriptions.Snapshot(ctx, tenant)
	if err != nil {
		return nil, err
	}
	run := &backtest{
		tenant: tenant, sub: &ask.Subscription, events: belfry.EventSelect{Since: ask.Since, Until: ask.Until}, people: map[string]*heard{},
		sum: belfry.BacktestReport{Since: ask.Since, Until: ask.Until, Channels: map[string]int64{}, NotTold: map[string]int64{}},
	}
	if len(run.sub.Types) == 1 {
		run.events.Type = run.sub.Types[0]
	}
	for at := ask.Since; at.Before(ask.Until); at = at.Add(week) {
		run.sum.Weeks = append(run.sum.Weeks, belfry.BacktestWeek{Start: at})
	}
	run.subs, err = snapshot.Suppose(run.sub)
	return run, err
}

const week = 7 * 24 * time.Hour

// step counts some events.
func (b *Backtester) step(ctx context.Context, run *backtest) error {
	if len(run.page) == 0 {
		if err := b.read(ctx, run); err != nil {
			return err
		}
	}
	for begun := b.Now(); len(run.page) > 0 && b.Now().Sub(begun) < backtestStep; run.page = run.page[1:] {
		acc := run.page[0]
		if err := b.count(ctx, run, acc); err != nil {
			return err
		}
		run.sum.Events++
		run.after = acc.EventID
	}
	if len(run.page) == 0 && run.last {
		run.over = true
	}
	if run.sum.Events >= backtestEvents && !run.over {
		run.over, run.sum.Cut = true, true
		if at, err := belfry.IDTime(run.after); err == nil {
			run.sum.Until = at
		}
	}
	return nil
}

// read reads the next events, in the order they were accepted. A page may hold
// none although others follow.
func (b *Backtester) read(ctx context.Context, run *backtest) error {
	places, next, err := b.Store.FindEvents(ctx, run.tenant, run.events, run.cursor, backtestPage)
	if err != nil {
		return err
	}
	ids := make([]string, len(places))
	for i := range places {
		ids[i] = places[i].EventID
	}
	events, err := b.Store.Events(ctx, run.tenant, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if acc := events[id]; acc != nil {
			run.page = append(run.page, acc)
		}
	}
	run.cursor, run.last = next, next == ""
	return nil
}

// count runs the stages for one event, as of the time it was accepted.
func (b *Backtester) count(ctx context.Context, run *backtest, acc *belfry.Accepted) error {
	v, err := b.Stages.view(ctx, acc)
	if err != nil {
		return err
	}
	reason, err := b.Stages.collapsed(ctx, acc, v)
	if err != nil || reason != nil {
		return err
	}
	facts, err := v.facts(acc.Event, acc.At)
	if err != nil {
		return err
	}
	m, wants, _ := run.subs.Interest(run.sub.ID, acc.Event, facts)
	if !wants {
		return nil
	}
	week := int64(acc.At.Sub(run.sum.Since) / week)
	if week < 0 || week >= int64(len(run.sum.Weeks)) {
		return nil // an id begins with the millisecond: on the edge it may be of the next range
	}
	run.sum.Matched++
	run.sum.Weeks[week].Matched++
	if run.sub.Condition != nil {
		if acc, v, err = run.meets(ctx, b.Stages, acc, v, facts, &m); err != nil || acc == nil {
			return err
		}
	}
	sample := belfry.BacktestSample{Event: acc.EventID, Type: acc.Event.Type, Object: acc.Event.Object, At: acc.At, Because: belfry.ViewReasons(m.Because), People: []belfry.AnswerPerson{}}
	dir := v.dir.Passing() // nobody else asks for all of these
	for seen, cursor := 0, ""; ; {
		result, err := resolve.Page(dir, acc, []belfry.Match{m}, v.typ, acc.At, cursor, explainLimit)
		if err != nil {
			return err
		}
		ds, sups, err := b.Stages.route(ctx, acc, 0, v, &result, acc.At)
		if err != nil {
			return err
		}
		run.add(ds, sups, week)
		if room := backtestFew - len(sample.People); room > 0 {
			few := ds[:min(len(ds), 2*room)]
			for i := range few {
				few[i].ID = "" // nothing was sent
			}
			people := peopleOf(few, sups[:min(len(sups), room)])
			sample.More = sample.More || len(people) > room || len(ds) > len(few) || len(sups) > room
			sample.People = append(sample.People, people[:min(len(people), room)]...)
		} else if len(ds)+len(sups) > 0 {
			sample.More = true
		}
		if result.Last {
			break
		}
		cursor = result.Next
		if seen += len(result.Recipients) + len(result.Dropped); seen >= backtestCrowd {
			run.sum.AtLeast = true
			break
		}
	}
	if len(run.samples) < backtestSamples {
		run.samples = append(run.samples, sample)
	} else {
		run.samples[run.next] = sample
	}
	run.next = (run.next + 1) % backtestSamples
	return nil
}

// add counts a page of what would have been done.
func (run *backtest) add(ds []belfry.Delivery, sups []belfry.Suppression, week int64) {
	w := &run.sum.Weeks[week]
	for i := range ds {
		d := &ds[i]
		run.sum.Messages++
		run.sum.Channels[d.Channel]++
		w.Messages++
		if d.Channel == belfry.ChannelWebhook {
			continue
		}
		who := d.Principal
		if who == "" {
			who = d.Address
		}
		p := run.people[who]
		if p == nil {
			if len(run.people) >= backtestPeople {
				run.sum.AtLeast = true
				continue
			}
			p = &heard{week: -1}
			run.people[who] = p
		}
		if p.week != week { // events come in their order
			p.week, p.inWeek = week, 0
			w.People++
		}
		p.all++
		p.inWeek++
		p.most = max(p.most, p.inWeek)
	}
	for i := range sups {
		if because := sups[i].Because; len(because) > 0 {
			run.sum.NotTold[because[len(because)-1].Code]++
		}
	}
}

// report is what was counted.
func (run *backtest) report() *belfry.BacktestReport {
	out := run.sum
	out.People = int64(len(run.people))
	out.Most, out.Samples = []belfry.BacktestPerson{}, []belfry.BacktestSample{}
	heardAll := int64(0)
	for _, who := range slices.SortedFunc(maps.Keys(run.people), func(a, b string) int {
		return cmp.Or(cmp.Compare(run.people[b].all, run.people[a].all), cmp.Compare(a, b))
	}) {
		p := run.people[who]
		heardAll += p.all
		out.PerWeek.Most = max(out.PerWeek.Most, p.most)
		if len(out.Most) < backtestMost {
			out.Most = append(out.Most, belfry.BacktestPerson{Who: who, Messages: p.all, InAWeek: p.most})
		}
	}
	if out.People > 0 {
		weeks := max(1, out.Until.Sub(out.Since).Hours()/week.Hours())
		out.PerWeek.Mean = float64(int64(100*float64(heardAll)/float64(out.People)/weeks+0.5)) / 100
	}
	for i := range run.samples { // the newest first
		out.Samples = append(out.Samples, run.samples[(run.next-1-i+2*len(run.samples))%len(run.samples)])
	}
	return &out
}
