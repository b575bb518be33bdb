package manage

import (
	"slices"
	"strconv"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/condition"
)

// terms are how people are told what a subscription tells: how often, at most how
// often, with what it is told and whom it is told all the same. What is as ever
// is not said.
func (r reading) terms(s *belfry.Subscription) (out []string) {
	if len(s.Notify) > 0 && !slices.ContainsFunc(s.Notify, func(n belfry.Notify) bool { return n.NamesPeople() }) {
		return nil
	}
	if s.Frequency != nil && s.Frequency.Every != "" {
		out = append(out, r.frequency(s.Frequency))
	}
	if t := s.Throttle; t != nil {
		text := r.Count("rule.throttle", t.Limit, "Span", r.Span(condition.Words(t.Span())))
		if t.Key != "" {
			text = r.Say("rule.throttle_each", "Throttle", text, "Key", short(t.Key))
		}
		out = append(out, text)
	}
	if !s.Merges() {
		out = append(out, r.Say("rule.apart"))
	}
	if len(s.Fallback) > 0 {
		out = append(out, r.Say("rule.fallback", "Channels", r.or(s.Fallback)))
	}
	if s.Acknowledge != nil {
		out = append(out, r.Say("rule.acknowledge"))
	}
	if s.Mandatory {
		out = append(out, r.Say("rule.mandatory"))
	}
	return out
}

// frequency says how often: once a week on Mondays at 08:00, the first at once.
func (r reading) frequency(f *belfry.Frequency) string {
	text := r.Say("rule.often." + f.Every)
	if !f.Digest() {
		return text
	}
	more := func(id string, pairs ...string) { text = r.Say(id, append(pairs, "Often", text)...) }
	if f.Clock == belfry.ClockElapsed {
		more("rule.elapsed")
	}
	if day, ok := belfry.ParseWeekday(f.Weekday); ok {
		more("rule.often_weekday", "Weekday", r.Say("rule.weekday."+belfry.Weekdays[day]))
	}
	if f.Day != 0 {
		more("rule.often_day", "Day", strconv.Itoa(f.Day))
	}
	switch {
	case f.At != "" && f.Every == belfry.Hourly:
		more("rule.often_minute", "Minute", f.At[len(f.At)-2:])
	case f.At != "":
		more("rule.often_at", "At", f.At)
	}
	if f.Leading {
		more("rule.often_leading")
	}
	if f.By == belfry.ByObject || f.By == belfry.ByRule {
		more("rule.often_by." + f.By)
	}
	if f.Content == belfry.ContentSend {
		more("rule.often_send")
	}
	return text
}
