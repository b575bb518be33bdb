package words

import (
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Span is a length of time as package condition writes it: 10 minutes.
func (p *Printer) Span(text string) string {
	count, unit, ok := strings.Cut(text, " ")
	if !ok {
		return text
	}
	return p.Say("span."+unit, "Count", count)
}

// Condition is where a condition stands in a group, in words. Its times are
// those of programs, to be looked up elsewhere.
func (p *Printer) Condition(v *belfry.ConditionView) string {
	if v.Ended != nil {
		return p.Say("stands.ended", "Date", stamp(v.Ended))
	}
	text := ""
	switch {
	case v.Needed > 0:
		text = p.Say("stands.count", "Count", strconv.Itoa(v.Count), "Needed", strconv.Itoa(v.Needed), "Span", p.Span(v.Within))
		if more := v.Needed - v.Count; more > 0 {
			text += p.Say("stands.more", "Count", strconv.Itoa(more))
		}
	case v.Within != "":
		return p.absence(v)
	case v.Value == nil:
		text = p.Say("stands.no_value")
	default:
		text = p.Say("stands.value", "Value", strconv.Quote(*v.Value), "Date", stamp(v.Last))
		if v.Side != "" {
			text += p.Say("stands." + v.Side)
		}
	}
	if v.Quiet != nil {
		text += p.Say("stands.quiet", "Date", stamp(v.Quiet))
	}
	return text
}

func (p *Printer) absence(v *belfry.ConditionView) string {
	switch {
	case v.Since == nil:
		return p.Say("stands.begins")
	case v.Open:
		return p.Say("stands.silent", "Date", stamp(v.Met), "Since", stamp(v.Since))
	}
	return p.Say("stands.due", "Date", stamp(v.Due), "Since", stamp(v.Since))
}

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}
