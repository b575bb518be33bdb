package render

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// conditionFields are what a template can name of an event that a condition
// made.
var conditionFields = fields("group count needed within firing first last events before after crossed limit", map[string]*node{
	"event": fields("type object actor", map[string]*node{"data": dynamic}),
})

// conditionData reads what met a condition; nil for all other events.
func (it *Item) conditionData() *belfry.ConditionData {
	if !it.Event.FromConditions() {
		return nil
	}
	d := new(belfry.ConditionData)
	if json.Unmarshal(it.Event.Data, d) != nil {
		return nil
	}
	return d
}

// condition is what a template can name of it; nothing for all other events.
func (it *Item) condition() object {
	d := it.conditionData()
	if d == nil {
		return object{}
	}
	events := make(list, len(d.Events))
	for i, id := range d.Events {
		events[i] = id
	}
	v := object{
		"group": d.Group, "count": int64(d.Count), "needed": int64(d.Needed), "within": it.say().Span(d.Within), "firing": int64(d.Firing),
		"first": it.dated(d.First), "last": it.dated(d.Last), "events": events, "event": object{},
		"before": given(d.Before), "after": given(d.After), "crossed": "", "limit": "",
	}
	if d.Limit != nil {
		v["crossed"], v["limit"] = it.say().Say("condition."+d.Crossed), it.limit(d)
	}
	if e := d.Event; e != nil {
		data, _ := json.Marshal(e.Data) // it was read from JSON
		v["event"] = object{"type": e.Type, "object": e.Object, "actor": e.Actor, "data": plain(data)}
	}
	return v
}

// dated is a time as the reader is shown it.
func (it *Item) dated(t *time.Time) string {
	if t == nil {
		return ""
	}
	return it.say().DateTime(t.In(it.zone()))
}

func given(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// limit is the limit that was crossed.
func (it *Item) limit(d *belfry.ConditionData) string {
	text := strconv.FormatFloat(*d.Limit, 'f', -1, 64)
	if number, ok := it.say().Number(text); ok {
		return number
	}
	return text
}

// conditionDetails say what met a condition when nobody wrote a template.
func (it *Item) conditionDetails(d *belfry.ConditionData) (out list) {
	say := it.say()
	add := func(label, value string) {
		if value = cut(oneLine(value), 200); value != "" {
			out = append(out, object{"label": say.Say(label), "value": value})
		}
	}
	switch {
	case d.Met != "":
		add("condition.over", say.Say("condition.again"))
	case d.After != nil:
		now := *d.After
		if d.Limit != nil {
			now += " (" + say.Say("condition."+d.Crossed) + " " + it.limit(d) + ")"
		}
		add("condition.before", given(d.Before))
		add("condition.after", now)
	case d.Needed == 0:
		add("condition.nothing", it.say().Span(d.Within))
	default:
		add("condition.count", say.Say("condition.events", "Count", strconv.Itoa(d.Count), "Span", it.say().Span(d.Within)))
	}
	if d.Event != nil {
		add("condition.event", TypeTitle(d.Event.Type))
	}
	add("condition.group", d.Group)
	if d.First != nil && d.Last != nil && !d.First.Equal(*d.Last) {
		add("condition.first", it.dated(d.First))
	}
	add("condition.last", it.dated(d.Last))
	return out
}
