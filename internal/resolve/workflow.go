package resolve

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

type workflowRule struct {
	match, rule int
	workflow    *belfry.WorkflowRule
}

// MaxSteps is how many steps of one history a workflow rule looks at, the
// latest ones; that there were more is recorded.
const MaxSteps = 10_000

// stepChunk is how many steps are read at once: the last one that matches is
// mostly among the first.
const stepChunk = 200

// wishWorkflow wishes for those the histories of a rule's origins name. What a
// history does not hold names nobody, which is no fault.
func (r *run) wishWorkflow(rule workflowRule) error {
	w := rule.workflow
	var places []int // in the chain
	if len(w.Origins) == 0 || slices.Contains(w.Origins, belfry.OriginContext) {
		places = append(places, 0)
	}
	if slices.Contains(w.Origins, belfry.OriginContainer) && len(r.chain) > 1 {
		places = append(places, 1)
	}
	if slices.Contains(w.Origins, belfry.OriginAncestor) {
		if at := closest(r.chain, w.AncestorTypes); at >= 0 {
			places = append(places, at)
		}
	}
	for _, at := range slices.Compact(places) { // the container may be the ancestor
		if err := r.wishSteps(rule, &r.chain[at]); err != nil {
			return err
		}
	}
	return nil
}

// wishSteps reads one object's history, the latest step first.
func (r *run) wishSteps(rule workflowRule, object *belfry.Object) error {
	w := rule.workflow
	q := belfry.StepQuery{Object: object.ID, Event: r.acc.EventID, AsOf: r.acc.AsOf, Limit: stepChunk}
	if w.History == belfry.HistoryGlobal {
		q.Document = object.Document // without one, its own history is all there is
	}
	own := r.ownStep(object, q.Document)
	names := stepNames{rule: rule, subscription: r.matches[rule.match].Subscription.ID, seen: map[string]bool{}}
	// take reports whether no further step is wanted.
	take := func(h *belfry.HistoryEntry) bool {
		if !w.Takes(h.Transition) {
			return false
		}
		r.wishes = names.of(h, r.wishes)
		return w.Lookup != belfry.LookupAll
	}
	for read := 0; ; {
		steps, next, err := r.dir.Steps(q)
		if err != nil {
			return err
		}
		for i := range steps {
			// The event's own step is in its place in time, and the latest of
			// that moment.
			if own != nil && !steps[i].Time.After(own.Time) {
				done := take(own)
				own = nil
				if done {
					return nil
				}
			}
			if take(&steps[i]) {
				return nil
			}
		}
		read += len(steps)
		if next == "" {
			break
		}
		if read >= MaxSteps || len(names.seen) >= expr.MaxNames {
			r.faults = append(r.faults, belfry.Reason{Code: belfry.RuleCut, Subscription: names.subscription, Rule: rule.rule, Object: object.ID,
				Detail: "its history is longer than the latest " + strconv.Itoa(read) + " steps that are looked at"})
			break
		}
		q.Before = next
	}
	if own != nil {
		take(own)
	}
	return nil
}

// ownStep is the step that the event itself is, when it is one of the history's.
// It comes from the event and not from the store, so that an event that is only
// supposed is explained as it would be planned.
func (r *run) ownStep(of *belfry.Object, document string) *belfry.HistoryEntry {
	if r.e.Transition == "" {
		return nil
	}
	here := &r.chain[0]
	if here.ID != of.ID && (document == "" || here.Document != document) {
		return nil
	}
	return &belfry.HistoryEntry{Object: here.ID, Document: here.Document, Transition: r.e.Transition, Actor: r.e.Actor, Time: r.e.Time, Variables: r.e.Variables}
}

// stepNames collects the people of steps, each once for each variable and
// transition that names them.
type stepNames struct {
	rule         workflowRule
	subscription string
	seen         map[string]bool
}

func (n *stepNames) of(h *belfry.HistoryEntry, wishes []wish) []wish {
	variables := n.rule.workflow.Variables
	if len(variables) == 0 {
		variables = []string{belfry.VariableActor}
	}
	for _, variable := range variables {
		for _, name := range stepValues(h, variable) {
			detail := variable + " of " + h.Transition
			key := detail + "\x00" + h.Object + "\x00" + name
			if n.seen[key] {
				continue
			}
			n.seen[key] = true
			wishes = append(wishes, wish{name, source{match: n.rule.match, reason: belfry.Reason{
				Code: belfry.NamedWorkflow, Subscription: n.subscription, Rule: n.rule.rule, Object: h.Object, Detail: detail}}})
		}
	}
	return wishes
}

// stepValues are the users a variable of a step holds: one, or a list.
func stepValues(h *belfry.HistoryEntry, variable string) []string {
	if variable == belfry.VariableActor {
		return uniq([]string{h.Actor})
	}
	if len(h.Variables) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(h.Variables))
	dec.UseNumber()
	var values any
	if dec.Decode(&values) != nil {
		return nil
	}
	return uniq(walk(values, strings.Split(variable, "."), nil))
}
