package manage

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// Each kind of rule in words.
func TestRulesInWords(t *testing.T) {
	for want, r := range map[string]belfry.Rule{
		"whoever is teacher there":                                   {Role: &belfry.RoleRule{Roles: []string{"teacher"}}},
		"whoever is teacher or manager on its container (not above)": {Role: &belfry.RoleRule{Roles: []string{"teacher", "manager"}, Origins: []string{"local"}, On: "container"}},
		"whoever is owner on the closest post or thread above it (not above that)": {
			Role: &belfry.RoleRule{Roles: []string{"owner"}, Origins: []string{"ancestor_local"}, AncestorTypes: []string{"post", "thread"}}},
		"whoever is reviewer at the destination or on the closest section above it or above that": {
			Role: &belfry.RoleRule{Roles: []string{"reviewer"}, Origins: []string{"merged", "ancestor_merged"}, AncestorTypes: []string{"section"}, On: "destination"}},
		"the actor of the last step of it": {Workflow: &belfry.WorkflowRule{}},
		"the actor of the last step but comment and view of it": {
			Workflow: &belfry.WorkflowRule{Transitions: []string{"-", "comment", "view"}}},
		"the actor and reviewers of every submit or publish of it and its parent, in any of its places": {Workflow: &belfry.WorkflowRule{Origins: []string{"context", "container"},
			Transitions: []string{"submit", "publish"}, Lookup: "all", Variables: []string{"actor", "reviewers"}, History: "global"}},
		"the actor of the last step of the closest folder above it": {
			Workflow: &belfry.WorkflowRule{Origins: []string{"ancestor"}, AncestorTypes: []string{"folder"}, Transitions: []string{"*"}}},
		"those that event.data.reviewers .map(r, string(r)) gives": {Computed: &belfry.ComputedRule{Expression: "event.data.reviewers\n  .map(r, string(r))"}},
		"those it is about": {Related: &belfry.RelatedRule{}},
	} {
		got := reading{words.For(), &facts{}}.recipients(&belfry.Subscription{Recipients: []belfry.Rule{r}})
		if want += " and those who joined"; got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}

// A whole rule in each of the four languages.
func TestRuleInLanguages(t *testing.T) {
	thirty := 30.5
	watched := belfry.Subscription{Types: []string{"a.b", "c.d"}, Scope: belfry.Scope{Object: "course/41"}, ObjectTypes: []string{"course"}, Filter: "event.data.kind == 'exam'",
		Condition:  &belfry.Condition{Count: 3, Within: "10m", GroupBy: "event.actor", Cooldown: "1h"},
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada"}, Groups: []string{"staff"}}}, {Role: &belfry.RoleRule{Roles: []string{"teacher"}}}, {Workflow: &belfry.WorkflowRule{}}},
		Notify:     []belfry.Notify{{Channels: []string{"inbox", "email"}}, {Script: "ring"}}, Exclude: belfry.Exclusion{Emails: []string{"x@example.org"}}}
	absent := belfry.Subscription{Types: []string{"backup.done"}, Condition: &belfry.Condition{Absence: "26h", Resolved: true}}
	nothing := belfry.Subscription{Scope: belfry.Scope{Object: "site", Applies: belfry.AppliesChildren}, Condition: &belfry.Condition{Absence: "1d"}}
	changed := belfry.Subscription{Types: []string{"t"}, Condition: &belfry.Condition{Change: "event.data.state", GroupBy: "event.object", Steps: []belfry.Step{{From: "open", To: "closed"}, {To: "failed"}}, First: true}}
	crossed := belfry.Subscription{Types: []string{"t"}, Condition: &belfry.Condition{Change: "event.data.n", Above: &thirty, Steps: []belfry.Step{{To: "above"}}}}
	known := &facts{object: &belfry.Object{ID: "course/41", Title: "CPR"}, persons: map[string]*belfry.Person{"ada": {User: belfry.User{ID: "ada", Name: "Ada"}}}}
	for language, want := range map[string][]string{
		"en": {
			`When a.b or c.d happens in CPR (course/41) or below to objects of type course, and kind is "exam", 3 times in 10 minutes for each event.actor, then quiet for 1 hour: tell Ada and group staff, whoever is teacher there, the actor of the last step of it and those who joined, by inbox and email; run script ring; but not x@example.org`,
			`When for 26 hours no backup.done happens anywhere, and when it is over: tell those who joined, as they prefer`,
			`When for 1 day nothing happens directly below CPR (site): tell those who joined, as they prefer`,
			`When t happens anywhere, and event.data.state changes from "open" to "closed" or to "failed", or has its first value for each event.object: tell those who joined, as they prefer`,
			`When t happens anywhere, and event.data.n rises above 30.5: tell those who joined, as they prefer`,
		},
		"es": {
			`Cuando ocurre a.b o c.d en CPR (course/41) o debajo con objetos de tipo course, y kind es "exam", 3 veces en 10 minutos por cada event.actor, después en silencio durante 1 hora: avisar a Ada y grupo staff, quien sea teacher allí, quien lo hizo en el último paso de él mismo y quienes se unieron, por inbox y email; ejecutar el script ring; pero no a x@example.org`,
			`Cuando durante 26 horas no ocurre backup.done en cualquier parte, y cuando termine: avisar a quienes se unieron, como prefieran`,
			`Cuando durante 1 día no ocurre nada directamente debajo de CPR (site): avisar a quienes se unieron, como prefieran`,
			`Cuando ocurre t en cualquier parte, y event.data.state cambia de "open" a "closed" o a "failed", o tiene su primer valor por cada event.object: avisar a quienes se unieron, como prefieran`,
			`Cuando ocurre t en cualquier parte, y event.data.n sube por encima de 30,5: avisar a quienes se unieron, como prefieran`,
		},
		"fr": {
			`Quand a.b ou c.d se produit dans CPR (course/41) ou en dessous pour des objets de type course, et que kind est "exam", 3 fois en 10 minutes pour chaque event.actor, puis silence pendant 1 heure : prévenir Ada et le groupe staff, quiconque est teacher à cet endroit, l’auteur pour la dernière étape de l’objet même et ceux qui se sont inscrits, par inbox et email ; exécuter le script ring ; mais pas x@example.org`,
			`Quand pendant 26 heures aucun backup.done ne se produit n’importe où, et quand c’est terminé : prévenir ceux qui se sont inscrits, comme ils préfèrent`,
			`Quand pendant 1 jour rien ne se produit directement sous CPR (site) : prévenir ceux qui se sont inscrits, comme ils préfèrent`,
			`Quand t se produit n’importe où, et que event.data.state change de "open" à "closed" ou vers "failed", ou a sa première valeur pour chaque event.object : prévenir ceux qui se sont inscrits, comme ils préfèrent`,
			`Quand t se produit n’importe où, et que event.data.n passe au-dessus de 30,5 : prévenir ceux qui se sont inscrits, comme ils préfèrent`,
		},
		"de": {
			`Wenn a.b oder c.d in CPR (course/41) oder darunter mit Objekten der Art course geschieht, und kind ist "exam", 3-mal in 10 Minuten für jedes event.actor, dann frühestens nach 1 Stunde wieder: Ada und Gruppe staff, wer dort teacher ist, den Handelnden bei dem letzten Schritt von ihm selbst und wer sich angemeldet hat, per inbox und email benachrichtigen; Skript ring ausführen; aber nicht x@example.org`,
			`Wenn binnen 26 Stunden kein backup.done irgendwo geschieht, und wenn es vorbei ist: wer sich angemeldet hat, nach deren Vorlieben benachrichtigen`,
			`Wenn binnen 1 Tag direkt unterhalb von CPR (site) nichts geschieht: wer sich angemeldet hat, nach deren Vorlieben benachrichtigen`,
			`Wenn t irgendwo geschieht, und event.data.state wechselt von "open" zu "closed" oder zu "failed", oder seinen ersten Wert hat für jedes event.object: wer sich angemeldet hat, nach deren Vorlieben benachrichtigen`,
			`Wenn t irgendwo geschieht, und event.data.n über 30,5 steigt: wer sich angemeldet hat, nach deren Vorlieben benachrichtigen`,
		},
	} {
		for i, s := range []*belfry.Subscription{&watched, &absent, &nothing, &changed, &crossed} {
			if got := readable(s, known, words.For(language)); got != want[i] {
				t.Errorf("%s:\n got %s\nwant %s", language, got, want[i])
			}
		}
	}
}
