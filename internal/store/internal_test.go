package store

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

func openSQLite(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{URL: "sqlite:" + t.TempDir(), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// pragma runs a statement on the writer's own connection.
func pragma(t *testing.T, db *DB, text string) {
	t.Helper()
	// Outside of a transaction: the writer is idle, and asked to do nothing else.
	err := db.doors.edit.do(context.Background(), &job{weight: 1, data: func(s *session) error { _, err := s.exec(text); return err }})
	if err != nil {
		t.Fatal(err)
	}
}

// A full disk (here: a limit on the file's pages, which SQLite reports with the
// same code) refuses what it cannot hold, keeps what was accepted, serves
// reads, and takes new work when there is room again.
func TestDiskFull(t *testing.T) {
	db := openSQLite(t)
	ctx := context.Background()
	pragma(t, db, "PRAGMA max_page_count = 400")
	var accepted []string
	var full error
	for n := 0; full == nil; n++ {
		drafts := make([]belfry.Draft, 50)
		for i := range drafts {
			id := fmt.Sprintf("%d-%d", n, i)
			drafts[i] = belfry.Draft{Tenant: "t", Event: &belfry.Event{ID: id, Type: "x"}, Body: []byte(`{"id":"` + id + `","data":"` + strings.Repeat("x", 500) + `"}`)}
		}
		rs, err := db.AcceptEvents(ctx, drafts)
		full = err
		for _, r := range rs {
			accepted = append(accepted, r.EventID)
		}
		if n > 1000 {
			t.Fatal("it is never full")
		}
	}
	if belfry.KindOf(full) != belfry.Unavailable || !strings.Contains(full.Error(), "disk") || !strings.Contains(full.Error(), "full") {
		t.Fatalf("a full disk says: %v", full)
	}
	for range 3 {
		if _, err := db.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: &belfry.Event{ID: "big"}, Body: make([]byte, 1<<20)}}); belfry.KindOf(err) != belfry.Unavailable {
			t.Fatalf("while it is full: %v", err)
		}
	}
	if got, err := db.Events(ctx, "t", accepted); err != nil || len(got) != len(accepted) || len(accepted) == 0 {
		t.Fatalf("%d of %d accepted events can be read: %v", len(got), len(accepted), err)
	}
	pragma(t, db, "PRAGMA max_page_count = 4294967294")
	rs, err := db.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: &belfry.Event{ID: "big"}, Body: []byte("{}")}, {Tenant: "t", Event: &belfry.Event{ID: "0-0"}, Body: []byte("{}")}})
	if err != nil || rs[0].Duplicate || !rs[1].Duplicate {
		t.Fatalf("with room again: %+v, %v", rs, err)
	}
	if n, err := db.Stats(ctx); err != nil || n.Tenants["t"].PendingPlans != int64(len(accepted)+1) {
		t.Errorf("stats: %+v, %v; want %d pending", n, err, len(accepted)+1)
	}
}

func TestIDMakerNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := idMaker{salt: rapid.Uint64().Draw(t, "salt")}
		now := time.UnixMicro(rapid.Int64Range(1<<50, 1<<51).Draw(t, "start"))
		var ids []string
		var last time.Time
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-5_000_000, 5_000_000).Draw(t, "jump")) * time.Nanosecond)
			for range rapid.SampledFrom([]int{1, 1, 1, 1, 3, 3, 3, 30, 30, 66_000}).Draw(t, "burst") {
				id, at := m.next(now)
				if at.Before(last) {
					t.Fatalf("accepted at %v after %v", at, last)
				}
				last = at
				ids = append(ids, id)
			}
			if rapid.Bool().Draw(t, "restart") {
				made, err := belfry.IDTime(ids[len(ids)-1])
				if err != nil {
					t.Fatal(err)
				}
				m = idMaker{salt: rapid.Uint64().Draw(t, "salt")}
				m.resume(made, last)
			}
		}
		if !slices.IsSorted(ids) || len(slices.Compact(ids)) != len(ids) {
			t.Fatal("ids do not rise strictly")
		}
	})
}

// The JSON written by hand is the JSON encoding/json would write.
func TestScribeWritesWhatJSONWould(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "plain", "a\x00b", "\"\\<>&\u2028\x7f", "bad\xff\xfe"}))
	reason := rapid.Custom(func(t *rapid.T) belfry.Reason {
		return belfry.Reason{Code: text.Draw(t, "code"), Subscription: text.Draw(t, "subscription"), Rule: rapid.IntRange(-2, 3).Draw(t, "rule"),
			Object: text.Draw(t, "object"), Role: text.Draw(t, "role"), Group: text.Draw(t, "group"), Detail: text.Draw(t, "detail")}
	})
	var known knownReasons
	rapid.Check(t, func(t *rapid.T) {
		var w scribe
		reasons := rapid.SliceOfN(reason, 1, 4).Draw(t, "reasons")
		equal := func(got string, value any) {
			want, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Fatalf("wrote %s, want %s", got, want)
			}
		}
		first := w.reasons(reasons)
		equal(first, reasons)
		equal(w.reason(&reasons[0]), reasons[0])
		own := []belfry.Reason{{Code: belfry.ScopeMatched, Subscription: reasons[0].Subscription, Object: "x"}, {Code: belfry.TypeMatched, Subscription: reasons[0].Subscription}}
		notes := []belfry.MatchNote{{Subscription: text.Draw(t, "note"), Because: reasons}, {Because: []belfry.Reason{}}, {Subscription: reasons[0].Subscription, Because: own}}
		written := w.notes(notes)
		read, err := readNotes(written)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := json.Marshal(notes)
		var want []belfry.MatchNote
		if err := json.Unmarshal(again, &want); err != nil || !reflect.DeepEqual(read, want) {
			t.Fatalf("read %v, want %v, %v", read, want, err)
		}
		if id := reasons[0].Subscription; len(id) > 8 && strings.Count(written, id) > 1+strings.Count(first, id) {
			t.Fatalf("wrote the subscription of a note with each of its reasons: %s", written)
		}
		if old, err := readNotes(string(again)); err != nil || !reflect.DeepEqual(old, read) { // as it was written before
			t.Fatalf("read %v, want %v, %v", old, read, err)
		}
		equal(first, reasons) // what was given out does not change
		back, err := readReasons(first, w.reason(&reasons[0]))
		if err != nil || len(back) != len(reasons)+1 {
			t.Fatalf("read back %d reasons, %v", len(back), err)
		}
		for range 2 { // read, and remembered
			again, err := known.read(first, "")
			if err != nil || !reflect.DeepEqual(again, back[:len(reasons)]) {
				t.Fatalf("remembered %v, want %v, %v", again, back[:len(reasons)], err)
			}
			_ = append(again, belfry.Reason{Code: belfry.Muted}) // must not show in the next
		}
	})
}

// Long lists of reasons are written once for all rows of an event, packed, come
// back as they were, and are small where they are alike.
func TestManyReasonsAreSharedAndPacked(t *testing.T) {
	var s session
	var known knownReasons
	var many []belfry.Reason
	for i := range 100 {
		many = append(many, belfry.Reason{Code: belfry.NamedGroup, Subscription: belfry.NewID(belfry.SubscriptionPrefix, time.UnixMilli(int64(i))), Rule: 1 + i%10, Group: "Schüler <9a>"})
	}
	plain := s.scribe.array(many)
	one := s.because("t", "evt_1", many)
	if again := s.because("t", "evt_1", many[:50]); again == one || s.because("t", "evt_1", many) != one {
		t.Error("reasons that begin alike are not told apart")
	}
	if again := s.because("t", "evt_1", slices.Clone(many)); again != one {
		t.Error("the same reasons are told apart")
	}
	for _, other := range [][2]string{{"t", "evt_2"}, {"u", "evt_1"}} {
		if s.because(other[0], other[1], many); len(s.shared.rows) == 0 || s.shared.rows[len(s.shared.rows)-1].event != other[1] || s.shared.rows[len(s.shared.rows)-1].tenant != other[0] {
			t.Errorf("%v has no reasons of its own", other)
		}
	}
	if one[0] != shareMark || len(one) > 20 || s.shared.rows[0].id != one {
		t.Errorf("rows say %s", one)
	}
	if few := s.because("t", "evt_1", many[:3]); few[0] != '[' {
		t.Errorf("a few reasons became %s", few)
	}
	if digest := s.because("t", "bnd_1", many); digest != plain {
		t.Errorf("what is of no event became %s", short(digest))
	}
	text := s.shared.rows[0].text
	if len(text) > len(plain)/2 || text[0] != packMark || clean(text) != nil {
		t.Errorf("%d bytes instead of %d: %s", len(text), len(plain), short(text))
	}
	if got, err := unpack(text); err != nil || got != plain {
		t.Errorf("unpacked as %s, %v", short(got), err)
	}
	for range 2 {
		got, err := known.read(text, "")
		if err != nil || !reflect.DeepEqual(got, many) {
			t.Fatalf("%d reasons read, %v", len(got), err)
		}
		_ = append(got, belfry.Reason{Code: belfry.Muted}) // must not show in the next
	}
	got, err := readReasons(text, s.scribe.reason(&belfry.Reason{Code: belfry.Erased}))
	if err != nil || len(got) != 101 {
		t.Errorf("%d reasons read, %v", len(got), err)
	}
	for _, bad := range []string{"~", "~!!", text[:len(text)-9], "~AAAA"} {
		if _, err := unpack(bad); belfry.KindOf(err) != belfry.Internal {
			t.Errorf("%s: %v", short(bad), err)
		}
	}
	s.shared.forget()
	clear(many)
	if s.because("t", "evt_1", many) == one {
		t.Error("other reasons have the text of those that lay there before")
	}
}

func TestJudgeServer(t *testing.T) {
	for _, c := range []struct {
		version  int
		encoding string
		replica  bool
		want     string
	}{
		{150018, "UTF8", false, ""},
		{130000, "UTF8", false, ""},
		{120022, "UTF8", false, "PostgreSQL 1.2 is too old: Belfry needs version 13 or newer"},
		{150018, "SQL_ASCII", false, "encoding is SQL_ASCII"},
		{150018, "UTF8", true, "read-only replica"},
	} {
		err := judgeServer(c.version, "1.2", c.encoding, c.replica)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// After a long job the others go first, once; alone it waits for nobody, and
// jobs that were given up hold up nobody.
func TestLongJobsLetOthersBetween(t *testing.T) {
	d, other := &door{limit: 100}, &door{limit: 100}
	w := (&DB{}).newWriter(other, d)
	named := map[*job]string{}
	put := func(d *door, name string, long bool) *job {
		j := &job{weight: 60, long: long}
		named[j] = name
		d.queue = append(d.queue, j)
		return j
	}
	want := func(names ...string) {
		t.Helper()
		var got []string
		batch, _ := w.take(nil)
		for _, j := range batch {
			got = append(got, named[j])
		}
		if !slices.Equal(got, names) {
			t.Fatalf("took %v, want %v", got, names)
		}
	}
	put(d, "long 1", true)
	want("long 1")
	put(d, "long 2", true)
	want("long 2") // nobody else is there
	put(d, "long 3", true)
	put(d, "small 1", false)
	put(other, "small 2", false)
	want("small 2", "small 1")
	put(other, "small 3", false)
	want("small 3", "long 3") // it was passed over once
	put(d, "long 4", true)
	put(other, "given up", false).state.Store(withdrawn)
	want("long 4")
	want()
}

// Stored events are read as the library that wrote them reads them.
func TestEventsAreReadBack(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "é\u2028<b>&", "\ufffd", "\"\\\n\t\u0000"}))
	raw := rapid.Map(rapid.SampledFrom([]string{"", `{}`, `null`, `false`, `0`, `[]`, `{"a":1,"a":{"b":[1.5e300,-0,12345678901234567890]}}`, `{ "a" : "\ud800\u00e9\/" }`, "\"\xff\xc3\"", strings.Repeat("[", 5000) + strings.Repeat("]", 5000)}),
		func(s string) json.RawMessage { return json.RawMessage(s) })
	rapid.Check(t, func(t *rapid.T) {
		fields := []string{}
		add := func(name string, value any) {
			v, isRaw := value.(json.RawMessage)
			if !isRaw {
				v, _ = json.Marshal(value)
			}
			if len(v) > 0 && rapid.Bool().Draw(t, "with "+name) {
				fields = append(fields, `"`+name+`":`+string(v))
			}
		}
		for _, name := range []string{"id", "source", "type", "subject", "object", "actor", "destination", "commit", "problem", "resolves", "transition", "comment", "unknown"} {
			add(name, text.Draw(t, name))
		}
		for _, name := range []string{"related", "flags"} {
			add(name, rapid.SliceOfN(text, 0, 3).Draw(t, name))
		}
		for _, name := range []string{"data", "record", "variables", "data"} {
			add(name, raw.Draw(t, name))
		}
		add("time", time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "time")).In(time.FixedZone("", 60*rapid.IntRange(-800, 800).Draw(t, "zone"))))
		add("extensions", map[string]json.RawMessage{"x": json.RawMessage(`"1"`), "y": json.RawMessage(`2`)})
		body := []byte("{" + strings.Join(fields, ",") + "}")
		want, got := new(belfry.Event), &belfry.Accepted{Body: body}
		if err := json.Unmarshal(body, want); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if err := readEvent(got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if !reflect.DeepEqual(got.Event, want) {
			t.Fatalf("%s is read as\n%+v\nby encoding/json as\n%+v", body, got.Event, want)
		}
	})
	if err := readEvent(&belfry.Accepted{EventID: "ev_1", Body: []byte(`{"id":`)}); belfry.KindOf(err) != belfry.Internal {
		t.Errorf("half a body: %v", err)
	}
}
