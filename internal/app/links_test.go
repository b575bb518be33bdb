package app

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/secret"
)

// feature: NEW-1 a link is good for its own purpose and time only
func TestLinksAreApart(t *testing.T) {
	box, err := secret.New([]string{secret.MakeKey()})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	l := &public{links: &links{base: "https://b.example", box: box, now: func() time.Time { return at }}}
	why := strings.TrimPrefix(l.links.Why(&belfry.Delivery{Tenant: "default", ID: "dlv_1", Principal: "user/8", Address: "ada@example.org"}), "https://b.example/why/")
	stop := strings.TrimPrefix(l.links.Unsubscribe("default", "sub_1", "user/8", ""), "https://b.example/u/")
	for _, token := range []string{stop, why + "x", "", "nonsense"} {
		if _, err := l.Why(t.Context(), token); belfry.KindOf(err) != belfry.NotFound {
			t.Errorf("%q: %v", token, err)
		}
	}
	if _, err := l.Offered(t.Context(), why); belfry.KindOf(err) != belfry.NotFound {
		t.Errorf("a link to read ends something: %v", err)
	}
	at = at.Add(unsubscribeFor + time.Second)
	if _, err := l.Why(t.Context(), why); belfry.KindOf(err) != belfry.NotFound {
		t.Errorf("too old: %v", err)
	}
	if strings.Contains(why, "ada@") {
		t.Error("the address of a user is in her link")
	}
}

// feature: NEW-1, NEW-15 the link of a message shows it to its recipient, and
// nothing once she is erased, or the message is another's
func TestWhyByLink(t *testing.T) {
	key := secret.MakeKey()
	cfg := config.Default()
	cfg.Listen, cfg.DataDir, cfg.SecretKey = "127.0.0.1:0", t.TempDir(), []config.Secret{config.Secret(key)}
	a, err := New(t.Context(), Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	box, err := secret.New([]string{key})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Microsecond)
	l := &links{base: "", box: box, now: time.Now}
	apply := func(ch belfry.Changes) {
		t.Helper()
		ch.Tenant = belfry.DefaultTenant
		if _, err := a.publisher.Apply(t.Context(), ch); err != nil {
			t.Fatal(err)
		}
	}
	apply(belfry.Changes{
		Users:         []belfry.User{{ID: "user/8", Name: "Ada", Email: "ada@example.org", Locale: "es"}},
		Subscriptions: []belfry.Subscription{{ID: "sub_1", Title: "Teachers", State: belfry.SubscriptionActive, Created: at}},
	})
	e := &belfry.Event{ID: "1", Source: "/x", Type: "core.x", Time: at, Object: "course/1", Actor: "user/9"}
	rs, err := a.db.AcceptEvents(t.Context(), []belfry.Draft{{Tenant: belfry.DefaultTenant, Event: e, Body: []byte(`{"id":"1","source":"/x","type":"core.x","object":"course/1","actor":"user/9"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	d := belfry.Delivery{Tenant: belfry.DefaultTenant, ID: belfry.DeliveryID(rs[0].EventID, 0, "email", "ada@example.org"), EventID: rs[0].EventID, Subscription: "sub_1", Channel: "email",
		Principal: "user/8", Address: "ada@example.org", Destination: "user/8", Due: at, Because: []belfry.Reason{{Code: belfry.NamedUser, Subscription: "sub_1", Rule: 1}, {Code: belfry.ByTenant}}}
	if errs, err := a.db.CommitPlans(t.Context(), []belfry.PlanPage{{Tenant: belfry.DefaultTenant, EventID: d.EventID, Last: true, Deliveries: []belfry.Delivery{d}}}); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	if _, err := a.db.RecordAttempts(t.Context(), []belfry.Attempt{{Tenant: belfry.DefaultTenant, DeliveryID: d.ID, N: 1, At: at, State: belfry.Failed, Outcome: belfry.Outcome{Kind: belfry.OutcomeRefused, Status: 550, Detail: "what the relay said"}}}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) string {
		t.Helper()
		w := httptest.NewRecorder()
		a.server.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		return w.Body.String()
	}
	hers := get(l.Why(&d))
	for _, want := range []string{"Por qué no ha recibido este mensaje", "Teachers", "ada@example.org", "/u/"} {
		if !strings.Contains(hers, want) {
			t.Errorf("%s is not in %s", want, hers)
		}
	}
	if strings.Contains(hers, "user/9") || strings.Contains(hers, "what the relay said") {
		t.Errorf("more than is hers: %s", hers)
	}
	other := d
	other.Principal = "user/9"
	if got := get(l.Why(&other)); strings.Contains(got, "Teachers") {
		t.Errorf("somebody else's: %s", got)
	}
	apply(belfry.Changes{EraseUsers: []string{"user/8"}})
	if got := get(l.Why(&d)); strings.Contains(got, "Teachers") || strings.Contains(got, "ada@") {
		t.Errorf("after she was erased: %s", got)
	}
}
