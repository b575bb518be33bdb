package resolve

import (
	"strconv"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

type computedRule struct {
	match, rule int
	computed    *belfry.ComputedRule
}

// wishComputed wishes for whom a rule's expression gives. An expression that
// fails on this event names nobody, and that is recorded; so is what it gives
// that is no name, beside those who are told, and what is beyond expr.MaxNames.
func (r *run) wishComputed(rule computedRule) error {
	because := belfry.Reason{Code: belfry.NamedComputed, Subscription: r.matches[rule.match].Subscription.ID, Rule: rule.rule}
	fault := func(code, detail string) {
		r.faults = append(r.faults, belfry.Reason{Code: code, Subscription: because.Subscription, Rule: because.Rule, Detail: detail})
	}
	prog, err := expr.CompileRecipients(rule.computed.Expression)
	if err != nil { // it was valid when it was saved: a later version may see it otherwise
		fault(belfry.RuleFault, err.Error())
		return nil
	}
	if r.vars == nil {
		facts := expr.Facts{Ancestors: r.chain, Now: r.now}
		if r.e.Actor != "" {
			people, err := r.dir.Persons([]string{r.e.Actor})
			if err != nil {
				return err
			}
			if p := people[r.e.Actor]; p != nil {
				facts.Actor = &p.User
			}
		}
		r.vars = expr.NewVars(r.e, facts)
	}
	var ancestor *belfry.Object
	if at := closest(r.chain, rule.computed.AncestorTypes); at >= 0 {
		ancestor = &r.chain[at]
	}
	named := prog.Names(r.vars, ancestor)
	if named.Fault != "" {
		fault(belfry.RuleFault, named.Fault)
	}
	if named.Cut > 0 {
		fault(belfry.RuleCut, strconv.Itoa(expr.MaxNames)+" are taken, "+strconv.Itoa(named.Cut)+" are left out")
	}
	for _, name := range named.Names {
		r.wishes = append(r.wishes, wish{name, source{match: rule.match, reason: because}})
	}
	return nil
}
