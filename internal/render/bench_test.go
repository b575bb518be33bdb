package render

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What an item of a digest costs that no other digest has: an event of some 600
// bytes in a template of the tenant's own, and in the built-in one.
func BenchmarkItem(b *testing.B) {
	own, err := Compile("{{event.data.fullname}} was changed", "Change no. {{event.data.seq}} of {{event.data.shortname}} by {{actor.name}}.")
	if err != nil {
		b.Fatal(err)
	}
	summary := strings.Repeat("Introduction to field operations, ", 13)
	for _, c := range []struct {
		name string
		t    *Template
	}{{"own", own}, {"builtin", Default("en")}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e := &belfry.Event{ID: "1", Source: "/bench", Type: "core.course_updated", Object: "course/41", Actor: "user/8", Time: time.Unix(1_462_786_276, 0),
					Data: fmt.Appendf(nil, `{"seq":%d,"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation","summary":%q}`, i, summary)}
				got := c.t.Inbox(Item{Event: e, Object: belfry.Object{ID: "course/41", Title: "CPR", URL: "https://school.example/course/41"}, Locale: "en"})
				if got.Title == "" || !strings.Contains(got.HTML, "CPR") {
					b.Fatal(got)
				}
			}
		})
	}
}
