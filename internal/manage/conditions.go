package manage

import (
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/condition"
	"github.com/belfryhq/belfry/internal/expr"
)

// checkCondition refuses a condition that cannot be meant.
func checkCondition(f *faults, s *belfry.Subscription) {
	c := s.Condition
	if c == nil {
		return
	}
	if c.GroupBy = strings.TrimSpace(c.GroupBy); c.GroupBy != "" {
		_, err := expr.CompileGroup(c.GroupBy)
		f.source("/condition/group_by", err)
	}
	if c.Change = strings.TrimSpace(c.Change); c.Change != "" {
		_, err := expr.CompileChanging(c.Change, c.Above != nil || c.Below != nil)
		f.source("/condition/change", err)
	}
	_, list := condition.Parse(c)
	f.within("/condition", list)
}

// conditionWarnings say what is allowed but perhaps not meant.
func conditionWarnings(s *belfry.Subscription) (out []string) {
	c := s.Condition
	if c == nil {
		return nil
	}
	if c.Change != "" && c.GroupBy == "" {
		out = append(out, "the condition compares all events with each other: group them, e.g. by event.object, to compare those of one thing")
	}
	if len(s.Types) == 0 && s.Filter == "" && len(s.Filters) == 0 && c.Absence == "" && c.Change == "" {
		out = append(out, "the condition counts every event there is: name types, or a filter")
	}
	return out
}

// often are the words of a condition behind what happens: , 4 times in 10
// minutes for each event.actor, then quiet for 1 hour.
func (r reading) often(c *belfry.Condition) string {
	if c == nil {
		return ""
	}
	spec, _ := condition.Parse(c)
	text := ""
	switch {
	case spec.Change():
		text = r.changes(c, &spec)
	case !spec.Absence():
		text = r.Say("rule.count", "Count", strconv.Itoa(spec.Count), "Span", r.Span(condition.Words(spec.Span)))
	}
	if spec.Grouped {
		text += r.Say("rule.each", "Group", short(c.GroupBy))
	}
	if spec.Cooldown > 0 {
		text += r.Say("rule.cooldown", "Span", r.Span(condition.Words(spec.Cooldown)))
	}
	if spec.Absence() && c.Resolved {
		text += r.Say("rule.resolved")
	}
	if c.Until != nil {
		text += r.Say("rule.until", "Date", r.DateTime(c.Until.UTC()))
	}
	return text
}

// changes are the words of a change: and event.data.state changes from "open" to
// "closed" or to "failed".
func (r reading) changes(c *belfry.Condition, spec *condition.Spec) string {
	text := ""
	if spec.Limits() {
		text = r.crosses(c, spec)
	} else {
		text = r.Say("rule.changes", "What", short(c.Change))
		if len(c.Steps) > 0 {
			text += " " + r.or(r.ways(c.Steps))
		}
	}
	if spec.Opening {
		text += r.Say("rule.first")
	}
	return text
}

// ways are the transitions that are asked for, the first ones.
func (r reading) ways(steps []belfry.Step) (out []string) {
	const most = 8
	for i, step := range steps {
		if i == most && len(steps) > most+1 {
			return append(out, r.Say("rule.more", "Count", strconv.Itoa(len(steps)-most)))
		}
		from, to := strconv.Quote(step.From), strconv.Quote(step.To)
		switch anyFrom, anyTo := condition.Anything(step.From), condition.Anything(step.To); {
		case anyFrom && anyTo:
			out = append(out, r.Say("rule.to_any"))
		case anyFrom:
			out = append(out, r.Say("rule.to", "To", to))
		case anyTo:
			out = append(out, r.Say("rule.from", "From", from))
		default:
			out = append(out, r.Say("rule.from_to", "From", from, "To", to))
		}
	}
	return out
}

// crosses are the words of a change across limits: and event.data.n rises above
// 30 or falls below 28.
func (r reading) crosses(c *belfry.Condition, spec *condition.Spec) string {
	number := func(limit *float64) string {
		if limit == nil {
			return ""
		}
		text, _ := r.Number(strconv.FormatFloat(*limit, 'f', -1, 64)) // it is one
		return text
	}
	id, limit := "rule.crosses", ""
	switch up, down := spec.Crosses(belfry.SideAbove), spec.Crosses(belfry.SideBelow); {
	case up && !down:
		id, limit = "rule.up", number(spec.Limit(belfry.SideAbove))
	case down && !up:
		id, limit = "rule.down", number(spec.Limit(belfry.SideBelow))
	case c.Below == nil:
		id = "rule.rises"
	case c.Above == nil:
		id = "rule.falls"
	}
	return r.Say(id, "What", short(c.Change), "Above", number(c.Above), "Below", number(c.Below), "Limit", limit)
}
