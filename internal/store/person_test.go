package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// Columns of text that name no person, or are erased in another way. A new
// column is put here, or into personTables of person.go, by whoever knows what
// it holds: what names people must be exported and erased.
var nobody = map[string]string{
	"changes.*":        "ids of what was edited; cut off after a week",
	"chores.*":         "",
	"commits.*":        "hashes and ids of events",
	"dedupe.*":         "hashes and ids of events",
	"failing.*":        "endpoints",
	"leases.*":         "",
	"nodes.*":          "",
	"permits.*":        "",
	"ask_counts.*":     "hashes, for two days",
	"upkeep.*":         "",
	"versions.*":       "",
	"objects.*":        "things of the platform",
	"plans.*":          "gone with the plan",
	"plan_matches.*":   "why subscriptions matched; of nobody",
	"source_cursors.*": "where sources are",
	"users.*":          "the stage profile",
	"user_emails.*":    "the stage profile",
	"members.*":        "the stage members",
	"opt_outs.*":       "the stage opt_outs",
	"groups.*":         "things of the platform",
	"bundle_lasts.*":   "when something went, under a hash",
	"attempts.*":       "with their deliveries",
	"problems.*":       "hashes of problems, and ids of events",
	"resolutions.*":    "hashes of problems, and ids of events",
	"follows.problem":  "a hash",

	"bundles.slot":           "a hash",
	"deliveries.bundle":      "ids of digests",
	"deliveries.template":    "names of templates",
	"inbox.template":         "names of templates",
	"history.document":       "things of the platform",
	"jobs.cursor":            "where they go on",
	"jobs.owner":             "nodes",
	"condition_groups.state": "times, and ids of events",
	"timers.body":            "steps, and which preference is meant",
	"subscriptions.state":    "",
}

// feature: NEW-15 no column is forgotten
func TestNoColumnIsForgotten(t *testing.T) {
	place := storetest.SQLitePlace(t)
	storetest.Open(t, place)
	known := store.PersonColumns()
	for _, c := range storetest.Columns(t, place) {
		table, name, _ := strings.Cut(c, ".")
		_, all := nobody[table+".*"]
		if _, one := nobody[c]; all || one || name == "tenant" || slices.Contains(known, c) {
			continue
		}
		t.Errorf("%s: does it name people? Say in personTables what it is, so that it is exported and erased, or here that it names nobody", c)
	}
}
