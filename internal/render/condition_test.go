package render

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

func conditionItem(t *testing.T, typ string, d belfry.ConditionData) Item {
	t.Helper()
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return Item{
		Event:     &belfry.Event{Source: belfry.OwnSource, Type: typ, Time: time.Date(2026, 3, 2, 8, 10, 0, 0, time.UTC), Data: data},
		TypeTitle: "Failed logins", Subscription: &belfry.Subscription{ID: "sub_1", Title: "Failed logins"},
	}
}

// feature: NEW-6, MDL-23 the values of a condition in templates, and the
// built-in message.
func TestConditionMessages(t *testing.T) {
	first, last := time.Date(2026, 3, 2, 8, 1, 0, 0, time.UTC), time.Date(2026, 3, 2, 8, 10, 0, 0, time.UTC)
	d := belfry.ConditionData{Subscription: "sub_1", Group: "192.0.2.7", Count: 4, Needed: 4, Within: "10 minutes", Firing: 2, First: &first, Last: &last,
		Events: []string{"evt_1", "evt_2"}, Event: &belfry.ConditionEvent{Type: "core.user_login_failed", Object: "site", Actor: "user/8", Data: map[string]any{"reason": 3}}}
	item := conditionItem(t, belfry.ConditionMet, d)
	tpl, err := Compile("{{subscription.title}}: {{condition.count}} from {{condition.group}}",
		"{{condition.first}} to {{condition.last}}, needed {{condition.needed}} in {{condition.within}}, firing {{condition.firing}}, "+
			"{{#condition.events}}{{.}} {{/condition.events}}, {{condition.event.type}} {{condition.event.object}} {{condition.event.actor}} {{condition.event.data.reason}}")
	if err != nil {
		t.Fatal(err)
	}
	got := tpl.Inbox(item)
	if want := "Failed logins: 4 from 192.0.2.7"; got.Title != want {
		t.Errorf("title %q, want %q", got.Title, want)
	}
	if want := "2 March 2026, 08:01 UTC to 2 March 2026, 08:10 UTC, needed 4 in 10 minutes, firing 2, evt_1 evt_2 , core.user_login_failed site user/8 3"; got.Text != want {
		t.Errorf("text %q, want %q", got.Text, want)
	}
	if _, err := Compile("{{condition.cuont}}", ""); err == nil || !strings.Contains(err.Error(), "condition.count") {
		t.Errorf("a slip of the pen: %v", err)
	}

	builtin := Default().Inbox(item)
	for _, part := range []string{"Count: 4 in 10 minutes", "Event: User login failed", "Group: 192.0.2.7", "First: 2 March 2026, 08:01 UTC", "Last: 2 March 2026, 08:10 UTC"} {
		if !strings.Contains(builtin.Text, part) {
			t.Errorf("%q is not in %q", part, builtin.Text)
		}
	}
	if builtin.Title != "Failed logins" {
		t.Errorf("title %q", builtin.Title)
	}
	absent := Default().Inbox(conditionItem(t, belfry.ConditionMet, belfry.ConditionData{Within: "26 hours", Events: []string{}}))
	if !strings.Contains(absent.Text, "Nothing for: 26 hours") {
		t.Errorf("an absence: %q", absent.Text)
	}
	german := item
	german.Locale = "de"
	if text := Default().Inbox(german).Text; !strings.Contains(text, "Anzahl: 4 in 10 Minuten") {
		t.Errorf("in German: %q", text)
	}
	before, after, limit := "29.5", "31", 30.5
	d.Before, d.After, d.Within = &before, &after, ""
	change := conditionItem(t, belfry.ConditionMet, d)
	if text := Default().Inbox(change).Text; !strings.Contains(text, "Before: 29.5") || !strings.Contains(text, "Now: 31\n") || strings.Contains(text, "Count") {
		t.Errorf("a change: %q", text)
	}
	d.Crossed, d.Limit = belfry.SideAbove, &limit
	change = conditionItem(t, belfry.ConditionMet, d)
	change.Locale = "de"
	if text := Default().Inbox(change).Text; !strings.Contains(text, "Vorher: 29.5") || !strings.Contains(text, "Jetzt: 31 (über 30,5)") {
		t.Errorf("in German: %q", text)
	}
	if tpl, err := Compile("{{condition.before}}>{{condition.after}} {{condition.crossed}} {{condition.limit}}", ""); err != nil || tpl.Inbox(change).Title != "29.5>31 über 30,5" {
		t.Errorf("values in templates: %v", err)
	}
	over := Default().Inbox(conditionItem(t, belfry.ConditionResolved, belfry.ConditionData{Within: "26 hours", Met: "x", Last: &last}))
	if !strings.Contains(over.Text, "Over: events come again") {
		t.Errorf("its end: %q", over.Text)
	}

	// Other events have no such values.
	other := tpl.Inbox(Item{Event: &belfry.Event{Source: "/x", Type: belfry.ConditionMet, Data: item.Event.Data}, Subscription: item.Subscription})
	if other.Title != "Failed logins: from" {
		t.Errorf("of another source: %q", other.Title)
	}
}
