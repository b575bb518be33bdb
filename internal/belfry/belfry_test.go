package belfry

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestIdsSortByTimeAndOrder(t *testing.T) {
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	var ids []string
	for ms := range 5 {
		for n := range uint16(300) {
			ids = append(ids, EventID(at.Add(time.Duration(ms)*time.Millisecond), n, 1<<63|uint64(n)))
		}
	}
	if !slices.IsSorted(ids) {
		t.Fatal("event ids do not sort in the order they were made")
	}
	got, err := IDTime(ids[len(ids)-1])
	if err != nil || !got.Equal(at.Add(4*time.Millisecond)) {
		t.Fatalf("IDTime = %v, %v", got, err)
	}
	if min := MinID(EventPrefix, at); min > ids[0] {
		t.Fatalf("MinID %s sorts after the first id %s", min, ids[0])
	}
}

// feature: NEW-10
func TestDeliveryIDIsComputed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := EventID(time.UnixMilli(rapid.Int64Range(0, 1<<45).Draw(t, "ms")), 1, 2)
		run := rapid.IntRange(0, 9).Draw(t, "run")
		ch := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "channel")
		addr := rapid.String().Draw(t, "address")
		id := DeliveryID(event, run, ch, addr)
		if id != DeliveryID(event, run, ch, addr) {
			t.Fatal("not a function of its arguments")
		}
		if id == DeliveryID(event, run+1, ch, addr) || id == DeliveryID(event, run, ch+"x", addr) || id == DeliveryID(event, run, ch, addr+"x") {
			t.Fatal("different deliveries share an id")
		}
		a, _ := IDTime(id)
		b, _ := IDTime(event)
		if !a.Equal(b) {
			t.Fatalf("id begins with %v, its event with %v", a, b)
		}
	})
}

func TestDeliveriesSortAsTheirEventsDo(t *testing.T) {
	at := time.UnixMilli(1_795_000_000_000)
	last := ""
	for n := range uint16(200) {
		id := DeliveryID(EventID(at, n, 7), 0, "inbox", "user/1")
		if id <= last {
			t.Fatalf("the delivery of event %d sorts before the one of the event before", n)
		}
		last = id
	}
}

func TestIDTimeRefusesWhatIsNoID(t *testing.T) {
	for _, s := range []string{"", "evt_", "evt", "evt_short", "evt_" + string(bytes.Repeat([]byte("u"), 26)), "_" + string(bytes.Repeat([]byte("!"), 26))} {
		if _, err := IDTime(s); err == nil {
			t.Errorf("IDTime(%q) took it", s)
		}
	}
}

func TestShardsSpread(t *testing.T) {
	var n [Shards]int
	for i := range 256 * 100 {
		n[Shard("default", NewID("x_", time.UnixMilli(int64(i))))]++
	}
	for s, c := range n {
		if c < 40 || c > 200 {
			t.Errorf("shard %d owns %d of 25600 keys", s, c)
		}
	}
}

func TestTypeMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, typ string
		want         bool
	}{
		{"core.course_updated", "core.course_updated", true},
		{"core.course_updated", "core.course_updated2", false},
		{"core.course_*", "core.course_updated", true},
		{"core.course_*", "core.course_", true},
		{"core.course_*", "core.cours", false},
		{"*", "anything", true},
		{"", "anything", false},
	} {
		if got := TypeMatches(c.pattern, c.typ); got != c.want {
			t.Errorf("TypeMatches(%q, %q) = %v", c.pattern, c.typ, got)
		}
	}
}

func TestGrantValidity(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	before, after := now.Add(-time.Hour), now.Add(time.Hour)
	for name, c := range map[string]struct {
		g      Grant
		active bool
	}{
		"open":          {Grant{}, true},
		"within":        {Grant{From: &before, Until: &after}, true},
		"not yet":       {Grant{From: &after}, false},
		"over":          {Grant{Until: &before}, false},
		"ends just now": {Grant{Until: &now}, false},
		"begins now":    {Grant{From: &now}, true},
		"marked":        {Grant{Inactive: "suspended enrolment"}, false},
	} {
		if got := c.g.InactiveAt(now) == ""; got != c.active {
			t.Errorf("%s: active = %v (%s)", name, got, c.g.InactiveAt(now))
		}
	}
}

func TestEveryReasonHasWordsAndStatesHaveNames(t *testing.T) {
	for code, text := range texts {
		if code == "" || text == "" {
			t.Errorf("reason %q says %q", code, text)
		}
	}
	if got := (Reason{Code: NamedRole, Role: "teacher", Object: "course/2"}).Text(); got != "holds a role the subscription names, role teacher, at course/2" {
		t.Errorf("Text() = %q", got)
	}
	for s := Scheduled; s <= Cancelled; s++ {
		back, ok := ParseState(s.String())
		if !ok || back != s {
			t.Errorf("state %d is %q and back %v", s, s, back)
		}
	}
}

func TestEventKeepsItsDocumentedForm(t *testing.T) {
	const form = `{"id":"41-1462786276","source":"/moodle","type":"core.course_updated","time":"2016-05-09T09:31:16Z","object":"course/41","actor":"user/8","data":{"shortname":"CPR"},"record":{"id":41}}`
	var e Event
	if err := json.Unmarshal([]byte(form), &e); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(&e)
	if err != nil || string(out) != form {
		t.Fatalf("got %s, %v", out, err)
	}
}
