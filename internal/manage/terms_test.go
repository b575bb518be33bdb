package manage

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// How people are told is among the words of a rule, in the reader's language.
// feature: S3-6, CPS-23, PEER-10
func TestReadableTerms(t *testing.T) {
	no := false
	for _, c := range []struct {
		sub  belfry.Subscription
		want map[string]string // by language, what stands after the people
	}{
		{belfry.Subscription{}, map[string]string{"en": "tell those who joined, as they prefer"}},
		{belfry.Subscription{Frequency: &belfry.Frequency{Every: "weekly", Weekday: "mon", At: "07:30", Leading: true}}, map[string]string{
			"en": "once a week on Mondays at 07:30, the first at once", "es": "una vez a la semana, los lunes a las 07:30, lo primero de inmediato",
			"fr": "une fois par semaine, le lundi à 07:30, le premier immédiatement", "de": "einmal in der Woche, montags um 07:30 Uhr, das erste sofort"}},
		{belfry.Subscription{Frequency: &belfry.Frequency{Every: "monthly", Day: 31, Content: "send", By: "object"}}, map[string]string{
			"en": "once a month on day 31, each object by itself, as things are then", "de": "einmal im Monat, am 31., jedes Objekt für sich, nach dem Stand zu dieser Zeit"}},
		{belfry.Subscription{Frequency: &belfry.Frequency{Every: "daily", Clock: "elapsed"}}, map[string]string{
			"en": "at most once a day", "es": "como máximo una vez al día", "fr": "au plus une fois par jour", "de": "höchstens einmal am Tag"}},
		{belfry.Subscription{Frequency: &belfry.Frequency{Every: "hourly", At: "00:15", By: "subscription"}}, map[string]string{"en": "once an hour, 15 minutes past, by itself"}},
		{belfry.Subscription{Frequency: &belfry.Frequency{Every: "never"}}, map[string]string{"fr": "jamais, sauf s’ils choisissent d’être prévenus"}},
		{belfry.Subscription{Frequency: &belfry.Frequency{Every: "immediate"}}, map[string]string{"en": "at once"}},
		{belfry.Subscription{Throttle: &belfry.Throttle{Limit: 1, Window: "48h"}}, map[string]string{
			"en": "at most 1 message to each person in 2 days", "es": "como máximo 1 mensaje por persona en 2 días",
			"fr": "au plus 1 message par personne en 2 jours", "de": "höchstens 1 Nachricht je Person in 2 Tagen"}},
		{belfry.Subscription{Throttle: &belfry.Throttle{Limit: 5, Window: "1h", Key: "event.object"}}, map[string]string{
			"en": "at most 5 messages to each person in 1 hour for each event.object", "de": "höchstens 5 Nachrichten je Person in 1 Stunde für jedes event.object"}},
		{belfry.Subscription{Merge: &no, Mandatory: true, Fallback: []string{"sms", "email"}, Acknowledge: &belfry.Acknowledge{}}, map[string]string{
			"en": "in messages of its own; by sms or email when that fails; to be acknowledged; whatever they have muted or stopped",
			"fr": "dans des messages à part ; par sms ou email en cas d’échec ; avec accusé de réception ; même s’ils l’ont mis en sourdine ou arrêté"}},
		{belfry.Subscription{Notify: []belfry.Notify{{Endpoint: "ep_1"}}, Frequency: &belfry.Frequency{Every: "daily"}, Mandatory: true}, map[string]string{"en": "call endpoint ep_1"}},
	} {
		for language, want := range c.want {
			got := readable(&c.sub, &facts{}, words.For(language))
			if !strings.HasSuffix(got, want) {
				t.Errorf("%s: %q does not end in %q", language, got, want)
			}
		}
	}
}

// A role that nobody was ever given is remarked on, with the one that may be
// meant, in every answer that stores or shows the rule, and by a manifest.
// feature: CPS-11, CPS-25
func TestWarnsOfStrangeRoles(t *testing.T) {
	h := open(t).school()
	rules := func(roles ...string) []belfry.Rule { return []belfry.Rule{{Role: &belfry.RoleRule{Roles: roles}}} }
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Recipients: rules("editingteacer", "zookeeper", "*")})
	h.ok(err)
	h.same("before any grant", s.Warnings, []string{"nobody was given the role editingteacer yet", "nobody was given the role zookeeper yet"})
	_, err = h.store.Apply(h.ctx(), belfry.Changes{Tenant: by.Tenant, Grants: []belfry.GrantSet{{Object: "course/41", Origin: "x", Grants: []belfry.Grant{{Principal: "user/8", Role: "editingteacher"}}}}})
	h.ok(err)
	want := []string{"nobody was ever given the role editingteacer: did you mean editingteacher?", "nobody was given the role zookeeper yet"}
	s, err = h.Subscription(h.ctx(), by.Tenant, s.ID)
	h.ok(err)
	h.same("read", s.Warnings, want)
	next := s.Subscription
	next.Recipients, next.Joining = rules("editingteacher"), belfry.Joining{Who: belfry.JoinRoles, Roles: []string{"editingteachr"}}
	s, err = h.PutSubscription(h.ctx(), by, next, nil)
	h.ok(err)
	h.same("put", s.Warnings, []string{"nobody was ever given the role editingteachr: did you mean editingteacher?"})
	r := h.applies(manifestOf(t, `{"belfry":1,"subscriptions":[{"name":"s","title":"S","recipients":[{"role":{"roles":["editingteacer","zookeeper"]}}]}]}`), ApplyOptions{DryRun: true})
	h.same("applied", r.Changes[0].Warnings, want)

	typ := belfry.EventType{Name: "a.b", SeeRoles: []string{"editingteacher", "editingteachr"}, Subscribe: belfry.Subscribers{Who: belfry.JoinRoles, Roles: []string{"zookeeper", "editingteachr"}}}
	got, err := h.EventTypeWarnings(h.ctx(), by.Tenant, &typ)
	h.ok(err)
	wantType := []string{"nobody was ever given the role editingteachr: did you mean editingteacher?", "nobody was given the role zookeeper yet"}
	h.same("a type", got, wantType)
	_, _, _, err = h.PutEventType(h.ctx(), by, typ, nil)
	h.ok(err)
	preset := belfry.Preset{Name: "p", Roles: []string{"editingteachr", "editingteacher"}}
	preset.Subscription.Types, preset.Subscription.Recipients = []string{"a.b"}, rules("editingteachr", "zookeeper")
	got, err = h.PresetWarnings(h.ctx(), by.Tenant, &preset)
	h.ok(err)
	h.same("a preset", got, wantType)
	preset.Subscription.Recipients = rules("editingteacher")
	got, err = h.PresetWarnings(h.ctx(), by.Tenant, &preset)
	h.ok(err)
	h.same("its own roles", got, wantType[:1])
	r = h.applies(manifestOf(t, `{"belfry":1,"event_types":[{"name":"a.b","see_roles":["editingteachr"],"subscribe":{"who":"roles","roles":["zookeeper"]}},{"name":"plain"}],
		"presets":[{"name":"p","roles":["editingteachr"],"subscription":{"types":["a.b"],"recipients":[{"role":{"roles":["zookeeper"]}}]}}],
		"presets_on":[{"preset":"p","object":"course/41"}]}`), ApplyOptions{})
	h.same("a type of a manifest", r.Changes[0].Warnings, wantType)
	h.same("another", r.Changes[1].Warnings, []string(nil))
	h.same("a preset of a manifest", r.Changes[2].Warnings, []string{wantType[1], wantType[0]})
	h.same("where it is on", r.Changes[3].Warnings, wantType[1:])
	if other, err := h.strangeRoles(h.ctx(), "other", []string{"editingteacher"}); err != nil || len(other) != 1 {
		t.Errorf("another tenant's roles are known: %v %v", other, err)
	}
}
