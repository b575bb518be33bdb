package app

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/pipeline"
)

// What is seen to come is said once, again when it got worse, and when it is
// over.
func TestSigns(t *testing.T) {
	var log strings.Builder
	room, attempts := int64(-1), map[pipeline.AttemptKey]pipeline.AttemptCount{}
	s := &signs{log: slog.New(slog.NewTextHandler(&log, nil)), room: func() int64 { return room }, counts: map[string]tries{}, failed: map[string]bool{},
		attempts: func() map[pipeline.AttemptKey]pipeline.AttemptCount { return attempts }}
	look := func(want ...string) {
		t.Helper()
		log.Reset()
		s.look()
		if strings.Count(log.String(), "\n") != len(want) {
			t.Errorf("said %q, want %q", log.String(), want)
		}
		for _, w := range want {
			if !strings.Contains(log.String(), w) {
				t.Errorf("said %q, want %q", log.String(), w)
			}
		}
	}
	look()
	for _, step := range []struct {
		room int64
		want []string
	}{{littleRoom, nil}, {littleRoom - 1, []string{"level=WARN", "nearly full"}[1:]}, {littleRoom - 2, nil}, {littleRoom / 3, []string{"nearly full"}}, {0, []string{"nearly full"}}, {0, nil}, {2 * littleRoom, []string{"has room again"}}, {2 * littleRoom, nil}} {
		room = step.room
		look(step.want...)
	}
	tried := func(channel, outcome string, n int64) {
		k := pipeline.AttemptKey{Channel: channel, Outcome: outcome}
		c := attempts[k]
		c.N += n
		attempts[k] = c
	}
	tried("email", "accepted", 100)
	tried("webhook", "retry", 100)
	look()
	tried("email", "retry", manyFail-1)
	look()
	tried("email", "retry", manyFail)
	look("no message went out for a minute by a channel: `belfry deliveries list --channel email --state retrying`")
	tried("email", "retry", 1000)
	look()
	tried("email", "accepted", 1)
	look("messages go out again")
	tried("email", "refused", manyFail)
	look("no message went out")
}
