package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/pipeline"
)

const (
	// signsEvery is how often it is looked for what an operator should hear of
	// before people do.
	signsEvery = time.Minute
	// littleRoom is what a disk should have left; of less it is said again each
	// time that half of it is gone.
	littleRoom = 1 << 30
	// manyFail is how many tries of a channel within signsEvery make a sign of it
	// when all of them fail; a few fail on any day.
	manyFail = 10
)

// signs are what is seen to come: a disk that fills, and a channel by which
// nothing goes out. What has happened already, a disk that is full or a
// destination that fails, is said where it is met.
type signs struct {
	log      *slog.Logger
	room     func() int64 // of the database's disk; below 0 = unknown
	attempts func() map[pipeline.AttemptKey]pipeline.AttemptCount

	said   int64 // room when it was last said that it is little; 0 = it was not
	counts map[string]tries
	failed map[string]bool // channels it was said of
}

// tries are those of a channel so far.
type tries struct{ all, well int64 }

func (a *App) signs() *signs {
	return &signs{log: a.log, room: a.db.Room, attempts: a.counters.Attempts, counts: map[string]tries{}, failed: map[string]bool{}}
}

// Run looks every minute until ctx ends.
func (s *signs) Run(ctx context.Context) error {
	tick := time.NewTicker(signsEvery)
	defer tick.Stop()
	for {
		s.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *signs) look() {
	switch room := s.room(); {
	case room < 0:
	case room >= littleRoom && s.said > 0:
		s.said = 0
		s.log.Info("the disk of the database has room again", "bytes", room)
	case room < littleRoom && (s.said == 0 || room < s.said/2):
		s.said = max(room, 1)
		s.log.Warn("the disk of the database is nearly full: make room, or keep things for less long (retention); when it is full new events are answered 503, and nothing that was accepted is lost", "bytes", room)
	}
	now := map[string]tries{}
	for k, n := range s.attempts() {
		t := now[k.Channel]
		t.all += n.N
		if k.Outcome == belfry.OutcomeDelivered.String() || k.Outcome == belfry.OutcomeAccepted.String() {
			t.well += n.N
		}
		now[k.Channel] = t
	}
	for channel, t := range now {
		was := s.counts[channel]
		all, well := t.all-was.all, t.well-was.well
		switch {
		case channel == belfry.ChannelWebhook: // its receivers are many, and each is said by itself
		case well > 0 && s.failed[channel]:
			delete(s.failed, channel)
			s.log.Info("messages go out again", "channel", channel)
		case well == 0 && all >= manyFail && !s.failed[channel]:
			s.failed[channel] = true
			s.log.Warn(fmt.Sprintf("no message went out for a minute by a channel: `belfry deliveries list --channel %s --state retrying` shows what its relay or provider says, and `belfry doctor` whether it can be reached; what waits is tried again", channel),
				"channel", channel, "tries", all)
		}
	}
	s.counts = now
}
