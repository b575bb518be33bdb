package manage

import (
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
	_, list := condition.Parse(c)
	f.within("/condition", list)
}

// conditionWarnings say what is allowed but perhaps not meant.
func conditionWarnings(s *belfry.Subscription) (out []string) {
	c := s.Condition
	if c == nil {
		return nil
	}
	if len(s.Types) == 0 && s.Filter == "" && len(s.Filters) == 0 && c.Absence == "" {
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
	if !spec.Absence() {
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
