package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What a source says in the log and what the metrics say of it name it alike.
func TestLogAndMetricsOfASourceJoin(t *testing.T) {
	var text bytes.Buffer
	s := newSources(sourceParts{log: slog.New(slog.NewTextHandler(&text, nil)), now: time.Now})
	s.ctx = t.Context()
	key := sourceKey{"school", "src_1"}
	s.start(key, belfry.Configured{Name: "campus", Kind: "none"}, 1)
	<-s.running[key].ended
	if line := text.String(); !strings.Contains(line, `msg="source stopped" tenant=school source=campus source_id=src_1`) {
		t.Errorf("the log says %s", line)
	}
	if all := s.all(); len(all) != 1 || all["school/src_1"].Error == "" {
		t.Errorf("metrics have %v", all)
	}
}
