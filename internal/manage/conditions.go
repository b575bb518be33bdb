package manage

import (
	"fmt"
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
func often(c *belfry.Condition) string {
	if c == nil {
		return ""
	}
	spec, _ := condition.Parse(c)
	text := ""
	switch {
	case spec.Change():
		text += ", " + changes(c, &spec)
	case !spec.Absence():
		text += ", " + spec.Text()
	}
	if spec.Grouped {
		text += " for each " + short(c.GroupBy)
	}
	if spec.Cooldown > 0 {
		text += ", then quiet for " + condition.Words(spec.Cooldown)
	}
	if spec.Absence() && c.Resolved {
		text += ", and when it is over"
	}
	if c.Until != nil {
		text += ", until " + c.Until.UTC().Format("2 January 2006, 15:04 UTC")
	}
	return text
}

// changes are the words of a change: and event.data.state changes from "open" to
// "closed", or to "failed".
func changes(c *belfry.Condition, spec *condition.Spec) string {
	const most = 8
	text := "and " + short(c.Change) + " changes"
	switch {
	case c.Above != nil && c.Below != nil:
		text = "and " + short(c.Change) + " rises above " + condition.Number(*c.Above) + " or falls below " + condition.Number(*c.Below)
	case c.Above != nil:
		text = "and " + short(c.Change) + " rises above " + condition.Number(*c.Above) + " or falls back"
	case c.Below != nil:
		text = "and " + short(c.Change) + " falls below " + condition.Number(*c.Below) + " or rises back"
	}
	var ways []string
	for i, step := range c.Steps {
		if i == most && len(c.Steps) > most+1 {
			ways = append(ways, fmt.Sprintf("%d more ways", len(c.Steps)-most))
			break
		}
		way := ""
		if step.From != "" && step.From != "*" {
			way = "from " + strconv.Quote(step.From)
		}
		if step.To != "" && step.To != "*" {
			way = strings.TrimSpace(way + " to " + strconv.Quote(step.To))
		}
		if way == "" {
			way = "to anything"
		}
		ways = append(ways, way)
	}
	if len(ways) > 0 {
		if spec.Limits() {
			text += ","
		}
		text += " " + list(ways, "or")
	}
	if spec.Opening {
		text += ", or has its first value"
	}
	return text
}

// never are the words of an absence before what does not happen: for 26 hours
// no backup.done.
func never(s *belfry.Subscription) string {
	spec, _ := condition.Parse(s.Condition)
	text := "for " + condition.Words(spec.Span)
	if len(s.Types) == 0 {
		return text + " nothing"
	}
	return text + " no " + list(s.Types, "or")
}
