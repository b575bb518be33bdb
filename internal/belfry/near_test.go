package belfry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// Who is planned together has ids that lie together, whatever a platform calls
// its people: that is what pages of an index are spared by.
func TestDeliveryIDsOfNeighboursLieTogether(t *testing.T) {
	const people, page = 50_000, 1000
	r := rand.New(rand.NewPCG(1, 2))
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = 'a' + byte(r.IntN(26))
		}
		return string(b)
	}
	for name, make := range map[string]func(i int) string{
		"numbers":          func(i int) string { return fmt.Sprint(1000 + i) },
		"typed numbers":    func(i int) string { return fmt.Sprint("user/", 1_000_000+i) },
		"mails of numbers": func(i int) string { return fmt.Sprintf("u%07d@example.org", i) },
		"uuids":            func(int) string { return fmt.Sprintf("user:%08x-%04x", r.Uint32(), r.IntN(1<<16)) },
		"surnames":         func(int) string { return letters(3 + r.IntN(8)) },
		"mails":            func(int) string { return letters(6) + "." + letters(5) + "@example.org" },
	} {
		who := []string{}
		for i := range people {
			who = append(who, make(i))
		}
		slices.Sort(who)
		event := NewID(EventPrefix, time.UnixMilli(1_700_000_000_000))
		seen := map[string]bool{}
		for from := 0; from < people; from += page {
			places := map[string]bool{}
			for _, a := range who[from : from+page] {
				id := DeliveryID(event, 0, ChannelInbox, a)
				if seen[id] && name != "surnames" {
					t.Fatalf("%s: %s has the id of another", name, a)
				}
				seen[id] = true
				places[id[:strings.Index(id, "_")+1+14]] = true // 70 bits: time, order and most of the place
			}
			if len(places) > 16 {
				t.Errorf("%s: the %d from %s on lie in %d places", name, page, who[from], len(places))
			}
		}
	}
}

func TestNearOfNumbers(t *testing.T) {
	for name, want := range map[string]byte{
		"": 0, "x": 0, "7": 0, "999": 0, "1000": 1, "user/1000": 1, "user/1999": 1, "u12000@example.org": 12, "256000": 0, "+34600123456": byte(34600123 & 0xff),
	} {
		if got := near(name); got != want {
			t.Errorf("%q lies near %d, not %d", name, got, want)
		}
	}
}
