package pipeline

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// feature: NEW-6 a backtest of a condition says how often it would have been
// met, as often as it was.
func TestBacktestCondition(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	c := belfry.Condition{Count: 3, Within: "10m", GroupBy: "event.data.host", Cooldown: "30m"}
	w.watched(c)
	for i := range 90 {
		host := `{"host":"web"}`
		if i%3 == 0 {
			host = `{"host":"db"}`
		}
		w.happen(belfry.Event{Data: json.RawMessage(host)})
		w.pass(time.Minute)
	}
	happened := w.inbox("ada")
	sub := belfry.Subscription{ID: "sub_supposed", Title: "Draft", Types: []string{"failed"}, State: belfry.SubscriptionActive, Condition: &c,
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada"}}}}, Notify: []belfry.Notify{{Channels: []string{belfry.ChannelInbox}}}}
	b := NewBacktester(w.stages, w.db, w.now)
	r, done, err := b.Short(t.Context(), belfry.DefaultTenant, &belfry.Backtest{Subscription: sub, Since: founded.Add(-time.Hour), Until: w.now().Add(time.Hour)})
	if err != nil || !done {
		t.Fatal(done, err)
	}
	if r.Matched != 90 || r.Messages != int64(happened) || happened < 4 || happened > 10 {
		t.Errorf("%d matched, %d messages; %d were told", r.Matched, r.Messages, happened)
	}
}
