package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
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
	"roles.*":          "names of roles, of nobody who has them",
	"resolutions.*":    "hashes of problems, and ids of events",
	"follows.problem":  "a hash",

	"bundles.slot":         "a hash",
	"bundle_looks.gone_to": "ids of digests",
	"bundle_looks.until":   "ids of digests",
	"deliveries.bundle":    "ids of digests",
	"deliveries.template":  "names of templates",
	"inbox.template":       "names of templates",
	"history.document":     "things of the platform",
	"jobs.cursor":          "where they go on",
	"jobs.owner":           "nodes",
	"timers.body":          "steps, and which preference is meant",
	"subscriptions.scope":  "the object in its body, and changed with it",
	"subscriptions.state":  "",
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

// documentKinds says of each kind of document whether it can name a person; of
// one that cannot, or is no document, why. A new kind is put here by whoever
// knows what it holds.
var documentKinds = map[string]string{
	"KindEndpoint": "", "KindFilter": "", "KindTemplate": "", "KindSetting": "", "KindPreset": "", "KindNotification": "",

	"KindEventType": "names, schemas and roles",
	"KindChannel":   "of the operator; secrets are sealed",
	"KindSource":    "of the operator; secrets are sealed",
	"KindTenant":    "of the operator, and of no tenant",
	"KindKey":       "of programs, and of no tenant",
	"KindManifest":  "of the operator: ids and names of what it keeps, which are of nobody, and the key that applied it",
	"KindScript":    "a kind of channels",

	"KindObject": "table", "KindUser": "table", "KindGroup": "table", "KindGrants": "table", "KindHistory": "table", "KindSubscription": "table",
	"KindMembers": "table", "KindDelivery": "table", "KindJob": "table", "KindEverything": "of changes",
}

// feature: NEW-15 no kind of document is forgotten
func TestNoKindOfDocumentIsForgotten(t *testing.T) {
	files, err := filepath.Glob("../belfry/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := 0
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, is := n.(*ast.ValueSpec)
			if !is || !strings.HasPrefix(spec.Names[0].Name, "Kind") || len(spec.Values) != 1 {
				return true
			}
			value, is := spec.Values[0].(*ast.BasicLit)
			if !is {
				return true
			}
			kind, err := strconv.Unquote(value.Value)
			why, known := documentKinds[spec.Names[0].Name]
			switch found++; {
			case err != nil || !known:
				t.Errorf("%s: do documents of the kind %s name people? Say so in personDocument, so that they are exported and erased, and here", file, spec.Names[0].Name)
			case store.PersonDocument(kind) != (why == ""):
				t.Errorf("%s: what personDocument says of %q is not what is said here", file, kind)
			}
			return true
		})
	}
	if found < len(documentKinds) {
		t.Errorf("%d kinds were found of %d", found, len(documentKinds))
	}
}
