package moodle

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/connector/sqlread"
	"github.com/belfryhq/belfry/internal/testdb"
)

// Whatever order rows become visible in, every one is wanted exactly once
// while its gap is open, and never again.
func TestPositionWantsEveryRowOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		live := rapid.Int64Range(0, 20).Draw(t, "live")
		p := position{High: rapid.Int64Range(0, 20).Draw(t, "high")}
		start := p.High
		ids := rapid.SliceOfNDistinct(rapid.Int64Range(1, 60), 1, 40, rapid.ID[int64]).Draw(t, "ids")
		seen := map[int64]bool{}
		for _, id := range ids {
			want := id > p.High || id > max(start, live)
			if p.wants(id) != want {
				t.Fatalf("row %d after %v: wanted %v, want %v (%+v)", id, seen, p.wants(id), want, p)
			}
			if !want {
				continue
			}
			p.see(id, now, live)
			seen[id] = true
			for id := range seen {
				if p.wants(id) {
					t.Fatalf("row %d is wanted again: %+v", id, p)
				}
			}
			last := int64(-1)
			for _, g := range p.Gaps {
				if g.From > g.To || g.From <= last+1 && last >= 0 || g.To >= p.High {
					t.Fatalf("gaps are out of order: %+v", p)
				}
				last = g.To
			}
		}
		raw, err := cursor{position: p}.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeCursor(raw, now)
		if err != nil || back.High != p.High || !slices.Equal(back.Gaps, p.Gaps) {
			t.Fatalf("%+v came back as %+v (%v)", p, back.position, err)
		}
		p.close(now.Add(time.Second), time.Second)
		if len(p.Gaps) != len(back.Gaps) {
			t.Fatal("a gap was given up too early")
		}
		p.close(now.Add(2*time.Second), time.Second)
		if len(p.Gaps) != 0 {
			t.Fatal("a gap was not given up")
		}
	})
}

func TestGapsAreBounded(t *testing.T) {
	var p position
	for id := int64(2); id < 10_000; id += 2 { // a cluster that counts in twos
		p.see(id, time.Now(), 0)
	}
	if len(p.Gaps) != maxGaps || p.Gaps[maxGaps-1].To != p.High-1 {
		t.Errorf("%d gaps, the last %+v of %d", len(p.Gaps), p.Gaps[len(p.Gaps)-1], p.High)
	}
}

func TestCursorsOfOtherForms(t *testing.T) {
	for _, raw := range []string{"", "{", `{"v":2}`, `{}`} {
		if _, err := decodeCursor([]byte(raw), time.Now()); err == nil {
			t.Errorf("%q was read as a cursor", raw)
		}
	}
}

// Folds agree exactly when what was handed agrees.
func TestFolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a, b table
		model := map[int64]uint32{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := rapid.Int64Range(1, 3*foldSize).Draw(t, "id")
			h := uint32(rapid.IntRange(0, 3).Draw(t, "hash"))
			a.set(id, h)
			model[id] = h
			if rapid.Bool().Draw(t, "look") {
				a.folds()
			}
		}
		for id, h := range model {
			if a.get(id) != h {
				t.Fatalf("row %d has the hash %d, want %d", id, a.get(id), h)
			}
			if h != 0 {
				b.set(id, h)
			}
		}
		for f := range int64(4) {
			if got, want := a.fold(f), b.fold(f); !slices.Equal(got, want) {
				t.Fatalf("fold %d is %x, want %x", f, got, want)
			}
		}
		var want []int64
		for id, h := range model {
			if h != 0 && id > 100 && id < 9000 {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, a.present(100, 9000)); diff != "" {
			t.Fatalf("present (-want +got):\n%s", diff)
		}
	})
}

func TestEnrolmentWindows(t *testing.T) {
	const now = 1_800_000_000
	type e struct{ status, method, start, end int64 }
	for name, tc := range map[string]struct {
		all  []e
		want string // reason now, then in an hour, then in two
	}{
		"open":                     {[]e{{0, 0, 0, 0}}, "yes yes yes"},
		"default end":              {[]e{{0, 0, 0, noEnd}}, "yes yes yes"},
		"ends in an hour":          {[]e{{0, 0, 0, now + 3600}}, "yes no no"},
		"begins in an hour":        {[]e{{0, 0, now + 3600, 0}}, "no yes yes"},
		"past":                     {[]e{{0, 0, 0, now - 1}}, "no no no"},
		"suspended":                {[]e{{1, 0, 0, 0}}, "no no no"},
		"method off":               {[]e{{0, 1, 0, 0}}, "no no no"},
		"suspended and open":       {[]e{{1, 0, 0, 0}, {0, 0, 0, 0}}, "yes yes yes"},
		"open and suspended":       {[]e{{0, 0, 0, 0}, {1, 0, 0, 0}}, "yes yes yes"},
		"past and future":          {[]e{{0, 0, 0, now - 1}, {0, 0, now + 3600, 0}}, "no yes yes"},
		"two open, the longer one": {[]e{{0, 0, 0, now + 3600}, {0, 0, 0, now + 9000}}, "yes yes yes"},
		"two to come, the next":    {[]e{{0, 0, now + 9000, 0}, {0, 0, now + 3600, now + 9999}}, "no yes yes"},
	} {
		t.Run(name, func(t *testing.T) {
			var best enrolment
			for i, x := range tc.all {
				n := enrolmentOf(x.status, x.method, x.start, x.end, now)
				if i == 0 || n.rank > best.rank || n.rank == best.rank && n.end > best.end {
					best = n
				}
			}
			var got []string
			for h := range 3 {
				at := time.Unix(now+int64(h)*3600, 0)
				word := "yes"
				if best.inactive != "" || best.from != nil && at.Before(*best.from) || best.until != nil && !at.Before(*best.until) {
					word = "no"
				}
				got = append(got, word)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("counts %v, want %s", got, tc.want)
			}
		})
	}
}

// feature: MDL-12
func TestThePollUsesThePrimaryKey(t *testing.T) {
	for name, tc := range map[string]struct {
		dsn  string
		want string
	}{
		"PostgreSQL": {testdb.MoodlePostgres(t), "mdl_logsstanlog_id_pk"},
		"MariaDB":    {testdb.MoodleMariaDB(t), "PRIMARY"},
	} {
		for _, p := range []position{{High: 800}, {High: 800, Gaps: []gap{{From: 790, To: 795}, {From: 797, To: 797}, {From: 799, To: 799}}}} {
			t.Run(fmt.Sprintf("%s with %d gaps", name, len(p.Gaps)), func(t *testing.T) {
				db := testdb.Open(t, tc.dsn)
				// Enough rows that the planner has a choice to make.
				if name == "PostgreSQL" && len(p.Gaps) == 0 {
					if _, err := db.Exec(`INSERT INTO mdl_logstore_standard_log (id, edulevel, contextid, contextlevel, contextinstanceid, userid, timecreated) SELECT -g, 0, 1, 10, 0, 0, 0 FROM generate_series(1, 50000) g`); err != nil {
						t.Fatal(err)
					}
					if _, err := db.Exec("ANALYZE mdl_logstore_standard_log"); err != nil {
						t.Fatal(err)
					}
				}
				d, err := sqlread.Open(sqlread.Options{DSN: tc.dsn, Prefix: "mdl_"})
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				query, args := pollQuery(&p, logColumns, logTable)
				plan, err := sqlread.Select(t.Context(), d, "EXPLAIN "+query, args, func(rows *sql.Rows) (string, error) {
					columns, err := rows.Columns()
					if err != nil {
						return "", err
					}
					cells := make([]sql.NullString, len(columns))
					into := make([]any, len(columns))
					for i := range cells {
						into[i] = &cells[i]
					}
					err = rows.Scan(into...)
					line := ""
					for _, c := range cells {
						line += c.String + " | "
					}
					return line, err
				})
				if err != nil {
					t.Fatal(err)
				}
				if all := strings.Join(plan, "\n"); !strings.Contains(all, tc.want) || strings.Contains(all, "Seq Scan") || strings.Contains(all, "ALL") || strings.Contains(all, "filesort") || strings.Contains(all, "Sort") {
					t.Errorf("the plan is\n%s", all)
				}
			})
		}
	}
}

func TestLocalesAndZones(t *testing.T) {
	for in, want := range map[string]string{"en": "en", "pt_br": "pt-BR", "zh_cn": "zh-CN", "de_kids": "de", "en_us_k12": "en-US", "": "", "sr_lt": "sr-LT", "mi_wwow": "mi", "klingon": ""} {
		if got := locale(in); got != want {
			t.Errorf("locale of %q is %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"99": "", "": "", "5.5": "", "-3": "", "Europe/Lisbon": "Europe/Lisbon", "Mars/Base": "", "Local": "", "../../etc/passwd": ""} {
		if got := timeZone(in); got != want {
			t.Errorf("zone of %q is %q, want %q", in, got, want)
		}
	}
}

func TestTypeNames(t *testing.T) {
	for in, want := range map[string]string{
		`\core\event\course_updated`: "core.course_updated", `\mod_forum\event\post_created`: "mod_forum.post_created", `\local_x\event\deep\thing_done`: "local_x.deep.thing_done",
		`core\event\course_updated`: "core.course_updated", `\core\course_updated`: "", ``: "", `\core\event\`: "", `\a b\event\c`: "", "\\core\\event\\x\x00y": "",
	} {
		if got := typeName(in); got != want {
			t.Errorf("type of %q is %q, want %q", in, got, want)
		}
	}
}

func TestSecretsStayOutOfRecords(t *testing.T) {
	for table, want := range map[string][]string{
		"course": {"id", "fullname"}, "user": {"id"}, "enrol": {"id", "fullname"}, "external_tokens": nil, "config_plugins": nil, "messages": nil, "oauth2_issuer": nil, "lti_types_config": nil,
		"tool_mfa_secrets": nil, "x; DROP": nil, "": nil,
	} {
		got := recordColumns(table, []string{"id", "fullname", "password", "quizpassword", "accesstoken", "resourcekey_secret", "passwordsaltmain"})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("columns of %s (-want +got):\n%s", table, diff)
		}
	}
	if got := recordColumns("odd", []string{"name"}); got != nil {
		t.Errorf("a table without id has the record %v", got)
	}
}

func TestSecretsStayOutOfOther(t *testing.T) {
	for in, want := range map[string]string{
		`{"sessionid":"abc","n":1}`: `{"n":1}`, `{"Token":"abc"}`: `{}`, `{"b":1,"a":{"x":"\u00e9"}}`: `{"b":1,"a":{"x":"\u00e9"}}`, `null`: `null`, `[1]`: `[1]`,
	} {
		if got := string(withoutSecrets([]byte(in), fieldsOf([]byte(in)))); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestLargePartsAreLeftOutAndNamed(t *testing.T) {
	big := []byte(`{"content":"` + strings.Repeat("x", maxOtherKept) + `"}`)
	r := &logRow{ID: 7, EventName: `\core\event\course_updated`, Component: "core", ContextLevel: levelCourse, InstanceID: 2, Created: 1_800_000_000}
	e, err := buildEvent(r, "moodle/x", "core.course_updated", big, big, place{object: "course/2"}, links{"https://a.example"})
	if err != nil {
		t.Fatal(err)
	}
	if e.Record != nil || !strings.Contains(string(e.Data), `"omitted":["other","record"]`) || !strings.Contains(string(e.Data), `"other":null`) {
		t.Errorf("event %s with the record %.50s", e.Data, e.Record)
	}
}
