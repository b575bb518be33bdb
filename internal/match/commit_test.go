package match

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-22 repeats of a type on an object, and a child under its parent, within one act
func TestCollapse(t *testing.T) {
	for _, c := range []struct {
		name, object, parent string
		first                map[string]string
		want                 string
	}{
		{"alone", "doc", "folder", map[string]string{"doc": "evt_5"}, ""},
		{"nothing known of the act", "doc", "folder", nil, ""},
		{"a repeat", "doc", "folder", map[string]string{"doc": "evt_4"}, belfry.RepeatInCommit},
		{"the first of repeats", "doc", "folder", map[string]string{"doc": "evt_5"}, ""},
		{"under its parent", "doc", "folder", map[string]string{"doc": "evt_5", "folder": "evt_4"}, belfry.ChildInCommit},
		{"its parent came after it", "doc", "folder", map[string]string{"doc": "evt_5", "folder": "evt_6"}, belfry.ChildInCommit},
		{"a repeat is one before it is a child", "doc", "folder", map[string]string{"doc": "evt_4", "folder": "evt_6"}, belfry.RepeatInCommit},
		{"the root has no parent", "", "", map[string]string{"root": "evt_5", "": "evt_1"}, ""},
		{"on the root, again", "", "", map[string]string{"root": "evt_1"}, belfry.RepeatInCommit},
		{"a child of the root", "doc", "root", map[string]string{"doc": "evt_5", "root": "evt_9"}, belfry.ChildInCommit},
	} {
		got := ""
		if r := Collapse(&belfry.Accepted{EventID: "evt_5", Event: &belfry.Event{Object: c.object}}, c.parent, c.first); r != nil {
			got = r.Code
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
