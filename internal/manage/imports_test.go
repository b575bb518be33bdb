package manage

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// imports runs a table and gives the rows in short.
func (h *house) imports(table string, o ImportOptions) (rows []string, totals ImportTotals) {
	h.t.Helper()
	im, err := h.ImportMembers(h.ctx(), by, strings.NewReader(table), o)
	h.ok(err)
	totals, err = im.Run(h.ctx(), func(r ImportedRow) error {
		rows = append(rows, fmt.Sprintf("%d %s: %s", r.Row, r.Outcome, r.Text))
		return nil
	})
	h.ok(err)
	return rows, totals
}

func (h *house) table(subscription string) string {
	h.t.Helper()
	var b bytes.Buffer
	h.ok(h.ExportMembers(h.ctx(), by.Tenant, subscription, &b))
	return b.String()
}

// importing opens a house with two declared types.
func importing(t *testing.T) *house {
	t.Helper()
	h := open(t).school()
	for _, name := range []string{"core.course_updated", "mod_forum.post_created"} {
		_, _, _, err := h.PutEventType(h.ctx(), by, belfry.EventType{Name: name}, nil)
		h.ok(err)
	}
	return h
}

const people = "\ufeffuser,email,types,object,channels,frequency,filter\r\n" +
	"user/8,,core.course_updated,course/41,inbox;email,daily,\r\n" +
	"user/9,,core.course_updated,course/41,,,\r\n" +
	",Guest@Example.org,mod_forum.post_created;core.course_updated,,,,\"event.data.topic == 'a,b'\"\r\n" +
	"staff,,mod_forum.post_created,forum/3,,\"{\"\"every\"\":\"\"weekly\"\",\"\"at\"\":\"\"07:30\"\"}\",\r\n"

// A dry run says what an import then does; rows of the same criteria share a
// subscription; a second import changes nothing; and what is exported is taken
// again, also by another tenant's server.
// feature: S3-27, S3-23, CPS-31
func TestImportSubscriptions(t *testing.T) {
	h := importing(t)
	dry, total := h.imports(people, ImportOptions{DryRun: true})
	if want := (ImportTotals{Rows: 4, Joined: 4, Created: 3}); total != want {
		t.Errorf("%+v, want %+v", total, want)
	}
	if subs, _, err := h.Subscriptions(h.ctx(), by.Tenant, SubscriptionQuery{}); err != nil || len(subs) != 0 {
		t.Fatalf("a dry run made %d subscriptions, %v", len(subs), err)
	}
	wet, again := h.imports(people, ImportOptions{})
	h.same("the dry run and the import", wet, dry)
	if again != total {
		t.Errorf("%+v, the dry run said %+v", again, total)
	}
	if !strings.HasPrefix(dry[0], `2 joined: user/8 joins "core.course_updated: CPR"`) {
		t.Error(dry[0])
	}
	before := h.table("")
	h.now = h.now.Add(time.Hour)
	_, total = h.imports(people, ImportOptions{})
	if want := (ImportTotals{Rows: 4, Unchanged: 4}); total != want {
		t.Errorf("again: %+v, want %+v", total, want)
	}
	if after := h.table(""); after != before {
		t.Errorf("importing again changed\n%s\nto\n%s", before, after)
	}
	_, total = h.imports(before, ImportOptions{})
	if total.Unchanged != 4 || total.Rows != 4 {
		t.Errorf("what was exported: %+v", total)
	}
	other := importing(t)
	_, total = other.imports(before, ImportOptions{})
	if total.Joined != 4 || other.table("") != before {
		t.Errorf("elsewhere: %+v\n%s\nwas\n%s", total, other.table(""), before)
	}
	ms, _, err := h.Memberships(h.ctx(), by.Tenant, "user/8", "", 10)
	h.ok(err)
	if len(ms) != 1 || ms[0].By != by.Who || !slices.Equal(ms[0].Channels, []string{"inbox", "email"}) || ms[0].Frequency.Every != belfry.Daily {
		t.Errorf("%+v", ms)
	}
}

// Each row is carried out by itself: those that are wrong say why, with their
// line, and the others are done.
// feature: S3-27
func TestImportRefusesRows(t *testing.T) {
	h := importing(t)
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "News", Scope: belfry.Scope{Object: "course/41"}})
	h.ok(err)
	rows, total := h.imports(strings.Join([]string{
		"user,email,subscription,types,object,joined_at,channels,frequency,filter",
		"user/8,,,core.course_updated,course/41",
		",,,core.course_updated",
		"user/8,a@b.example,,core.course_updated",
		"user/77,,,core.course_updated",
		",nobody,,core.course_updated",
		"user/9,,,core.course_*",
		"user/9,,,core.unknown",
		"user/9,,,core.course_updated,course/99",
		"user/9,,,core.course_updated,,,pigeon",
		"user/9,,,core.course_updated,,,,sometimes",
		"user/9,,,core.course_updated,,,,{",
		"user/9,,,core.course_updated,,,,,event.(",
		"user/9",
		"user/9,," + s.ID + ",core.course_updated",
		"user/9,,sub_none",
		"user/9,," + s.ID + ",,,course/42",
		"user/9,," + s.ID + ",,,forum/3",
		"user/9,," + s.ID + ",,,forum/3",
		"user/9,," + s.ID + ",,,forum/3,email",
		"user/9,,,core.course_updated,,,,,,,,,",
		"user/10,,,core.course_updated",
		"user/9,,,\"core.course_updated,course/41",
	}, "\n")+"\n", ImportOptions{})
	want := []string{
		"2 joined: user/8 joins", "3 refused: names nobody", "4 refused: names a user and an email", `5 refused: there is no user or group "user/77"`,
		"6 refused: email is not an e-mail address", "7 refused: types is a prefix", `8 refused: types there is no event type "core.unknown"`,
		`9 refused: object there is no object "course/99"`, "10 refused: channels", "11 refused: frequency", "12 refused: frequency is neither", "13 refused: filter",
		"14 refused: names nothing to subscribe to", "15 refused: names a subscription and what", `16 refused: there is no subscription "sub_none"`,
		`17 refused: joined_at "course/42" is outside`, "18 joined: user/9 joins", "19 unchanged: says the same as line 18", "20 refused: says of the same person and subscription something else than line 18",
		"21 refused: has 13 cells, the head has 9", `22 refused: there is no user or group "user/10"`, "23 refused: is no row of a table",
	}
	for i := range max(len(rows), len(want)) {
		if i >= len(rows) || i >= len(want) || !strings.HasPrefix(rows[i], want[i]) {
			t.Fatalf("row %d of\n%s\nwant %q", i, strings.Join(rows, "\n"), want[min(i, len(want)-1)])
		}
	}
	if total.Joined != 2 || total.Refused != len(want)-3 || total.Unchanged != 1 {
		t.Errorf("%+v", total)
	}
	h.same("members", h.members(s.ID), []string{"user/9 forum/3"})
}

// Faults of the whole table are said before anything is done.
// feature: S3-27
func TestImportRefusesTables(t *testing.T) {
	h := importing(t)
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "News"})
	h.ok(err)
	for _, c := range []struct{ table, subscription, says string }{
		{"", "", "the table is empty"},
		{"usr,types\n", "", `did you mean "user"`},
		{"user,types,shoe_size\n", "", "known are subscription, title, types"},
		{"user,types,user\n", "", "comes twice"},
		{"user;types;object\n", "", "not separated by commas"},
		{"types,object\n", "", "nobody is named"},
		{"user,channels\n", "", "nothing is subscribed to"},
		{"user,types\n", s.ID, `unknown column "types"`},
		{"user\n", "sub_none", "no subscription"},
		{"us\xffer,types\n", "", "not valid UTF-8"},
		{"\"user\n", "", "no line of a CSV table"},
	} {
		_, err := h.ImportMembers(h.ctx(), by, strings.NewReader(c.table), ImportOptions{Subscription: c.subscription})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want a word of %q", c.table, err, c.says)
		}
	}
}

// A list of addresses is added as an administrator adds them; who left is not
// brought back, and what somebody chose who joined by herself stays. Asked
// instead, all of them are invited, once.
// feature: CPS-31, CPS-24
func TestImportAddresses(t *testing.T) {
	h := importing(t)
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "News", Joining: belfry.Joining{Who: belfry.JoinAnyone}})
	h.ok(err)
	o := ImportOptions{Subscription: s.ID}
	rows, _ := h.imports("Ann@Example.org\nben@example.org\n\nann@example.org\nnobody\n", o)
	h.same("rows", rows, []string{`1 joined: ann@example.org joins "News"`, `2 joined: ben@example.org joins "News"`, "4 unchanged: says the same as line 1", "5 refused: email is not an e-mail address such as ada@example.org"})
	h.roles = rolesHeld{"user/8 at root": "student", "user/9 at root": "student"}
	h.joins(s.ID, Joiner{User: "user/8", Channels: []string{"email"}})
	h.joins(s.ID, Joiner{User: "user/9"})
	_, err = h.Leave(h.ctx(), by, s.ID, Joiner{User: "user/9"})
	h.ok(err)
	rows, _ = h.imports("user,email,channels\nuser/8,,inbox\nuser/9,,\n,ben@example.org,inbox\n", o)
	h.same("rows", rows, []string{`2 unchanged: user/8 joined "News" by herself: what she chose stays`,
		`3 refused: user/9 left "News" by herself: a list does not bring her back; add her by name if she asks for it`,
		`4 changed: ben@example.org hears of "News" by other channels, or at other times`})
	if got := h.table(s.ID); got != "user,email,joined_at,channels,frequency,by,since\r\n"+
		",ann@example.org,,,,key_1 (school),2026-11-21T08:00:00Z\r\n,ben@example.org,,inbox,,key_1 (school),2026-11-21T08:00:00Z\r\nuser/8,,,email,,,2026-11-21T08:00:00Z\r\n" {
		t.Error(got)
	}
	h.post()
	o.Ask = true
	rows, total := h.imports("email,channels\nnew@example.org,\nann@example.org,\nother@example.org,inbox\n", o)
	if total.Asked != 1 || total.Unchanged != 1 || total.Refused != 1 {
		t.Errorf("%+v %q", total, rows)
	}
	h.same("messages", types(h.post()), []string{"belfry.joining_invited to new@example.org"})
	_, total = h.imports("new@example.org\n", o)
	if total.Unchanged != 1 {
		t.Errorf("%+v", total)
	}
	h.same("messages", types(h.post()), nil)
}

// A large table is done in chunks, all of it.
func TestImportMany(t *testing.T) {
	h := importing(t)
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "News"})
	h.ok(err)
	var b strings.Builder
	for i := range 2*importChunk + 1 {
		fmt.Fprintf(&b, "reader-%d@example.org\n", i)
	}
	_, total := h.imports(b.String(), ImportOptions{Subscription: s.ID})
	if total.Joined != 2*importChunk+1 || strings.Count(h.table(s.ID), "\n") != 2*importChunk+2 {
		t.Errorf("%+v", total)
	}
}

// Every text comes back out of a table as it went in, and none is a formula.
// feature: S3-27
func TestCellsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`['=+@\-| \t]{0,4}[a-z(]{0,4}`)).Draw(t, "text")
		cell := cellOf(text)
		if render.Formula(cell) {
			t.Fatalf("%q is a formula", cell)
		}
		if back := textOf(cell); back != text {
			t.Fatalf("%q came back as %q", text, back)
		}
	})
}

// No table makes an import fail otherwise than by saying what is wrong.
func FuzzOpenTable(f *testing.F) {
	f.Add(people)
	f.Add("a@b.example\n\"")
	f.Add("user,email\n'=1,,,\n\xff\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := openTable(strings.NewReader(text), subscriptionColumns)
		if err != nil {
			if belfry.KindOf(err) != belfry.Malformed && belfry.KindOf(err) != belfry.Invalid {
				t.Fatal(err)
			}
			return
		}
		for range 1000 {
			cells, line, fault, err := rows.next()
			if err != nil {
				return
			}
			if line < 1 || (cells == nil) == (fault == "") {
				t.Fatalf("line %d, cells %v, fault %q", line, cells, fault)
			}
		}
	})
}
