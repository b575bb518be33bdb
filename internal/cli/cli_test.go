package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/config"
)

func TestDraft(t *testing.T) {
	body, err := (&Draft{Type: "t", Object: "o", Related: []string{"a"}, Data: `{"x":1}`, Record: "false", Flags: []string{"silent"}}).body()
	if err != nil || string(body) != `{"data":{"x":1},"flags":["silent"],"object":"o","record":false,"related":["a"],"type":"t"}` {
		t.Error(string(body), err)
	}
	file := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]Draft{
		"no type": {}, "data": {Type: "t", Data: "{"}, "empty file": {File: file}, "no file": {File: file + "x"}, "empty input": {File: "-", In: strings.NewReader("")},
		"endless input": {File: "-", In: endless{}},
	} {
		if _, err := d.body(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// feature: NEW-1
func TestAnswerInWords(t *testing.T) {
	a := belfry.Answer{
		Event: belfry.EventView{EventID: "evt_1", Event: belfry.Event{Type: "core.course_updated", Object: "course/41", Actor: "user/8"}},
		Subscriptions: []belfry.AnswerSubscription{
			{ID: "sub_1", Title: "Courses\x1b[31m", Matched: true, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.ScopeMatched, Object: "course/41"}, {Code: belfry.TypeMatched}})},
			{ID: "sub_2", Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.FilterFalse}})},
			{ID: "sub_3", Matched: true, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.ConditionCounted}}), Condition: &belfry.ConditionView{Text: "3 of 4 in 10 minutes: 1 more needed"}},
		},
		People: []belfry.AnswerPerson{
			{Principal: "user/1", Outcome: belfry.Told, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NamedRole, Role: "teacher", Object: "course/41"}})},
			{Principal: "user/8", Outcome: belfry.NotTold, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.IsActor}})},
			{Endpoint: "ep_1", Outcome: belfry.Told, Deliveries: []string{"dlv_1", "dlv_2", "dlv_inbox"}}, {Address: "x@example.org", Channel: "email", Outcome: belfry.NotTold},
			{Outcome: belfry.NotTold, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.RuleCut, Subscription: "sub_1", Rule: 2, Detail: "20000 are taken, 5 are left out"}})},
			{Outcome: belfry.NotTold, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.RepeatInCommit}})},
		},
		Planned:      true,
		Acknowledged: []belfry.Acknowledgement{{Who: "user/2", At: time.Unix(0, 0), How: belfry.ByLink}},
		Escalation: []belfry.AnswerEscalation{
			{Subscription: "sub_1", Title: "Courses", Step: 1, Of: 2, Due: time.Unix(900, 0), Users: []string{"user/3"}, Groups: []string{"night"}, Channels: []string{"sms", "email"}},
			{Subscription: "sub_3", Step: 2, Of: 2, Due: time.Unix(1800, 0), Again: true},
			{Subscription: "sub_4", Step: 3, Due: time.Unix(1800, 0)},
		},
	}
	var b strings.Builder
	if err := writeAnswer(Out{Writer: &b}, &a, map[string]send{
		"dlv_1": {ID: "dlv_1", Channel: "webhook", State: "retrying", Tries: 2, Due: time.Unix(0, 0)},
		"dlv_2": {ID: "dlv_2", Channel: "email", State: "delivered", Tries: 1},
	}); err != nil {
		t.Fatal(err)
	}
	want := `evt_1  core.course_updated at course/41 by user/8

subscriptions
  yes  sub_1 Courses [31m: the event happened within the subscription's scope, at course/41; the event's type is one it asks for
  no   sub_2: its filter is false for this event
  yes  sub_3: it counts for the condition, which tells when it is met; 3 of 4 in 10 minutes: 1 more needed

people
  told      user/1: holds a role the subscription names, role teacher, at course/41
  not told  user/8: did it themselves, and the subscription leaves out the actor
  told      endpoint ep_1: 
            webhook retrying, try 2, again 1970-01-01 00:00:00Z: GET /v1/deliveries/dlv_1
            email delivered: GET /v1/deliveries/dlv_2
  not told  <x@example.org> on email: 
  not told  by rule 2 of sub_1: a rule of the subscription names more people than are taken: 20000 are taken, 5 are left out
  not told  anybody: the same act did this to the object before, and that was told

acknowledged
  1970-01-01 00:00:00Z  by user/2 (link)

if nobody acknowledges
  1970-01-01 00:15:00Z  user/3, group night on sms, email: step 1 of 2 of sub_1 Courses
  1970-01-01 00:30:00Z  whoever was told, again: step 2 of 2 of sub_3
  1970-01-01 00:30:00Z  nothing: sub_4 is paused, has ended or has no step 3 any more
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// Of the past -n 0 shows nothing, and -f all that comes after the first look.
func TestTailFromNow(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	event := func(n int) map[string]any {
		return map[string]any{"event_id": belfry.EventID(at.Add(time.Duration(n)*time.Second), 0, 0), "type": fmt.Sprint("number.", n), "accepted": at}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var looks atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(looks.Add(1))
		items := []map[string]any{event(1)}
		if n > 1 { // latest first
			items = []map[string]any{event(2), event(1)}
		}
		if n > 2 {
			cancel()
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	}))
	defer server.Close()
	c, err := client.New(server.URL, "key", "")
	if err != nil {
		t.Fatal(err)
	}
	for follow, want := range map[bool][]string{false: nil, true: {"number.2"}} {
		looks.Store(0)
		var b strings.Builder
		if err := Tail(ctx, c, Out{Writer: &b}, Watch{Follow: follow, Every: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "number.1") || strings.Count(b.String(), "\n") != len(want) || follow && !strings.Contains(b.String(), want[0]) {
			t.Errorf("-f %v shows\n%s", follow, b.String())
		}
		if ctx.Err() != nil {
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
		}
	}
}

// What doctor says of a database, and what to do.
func TestDoctorOfDatabases(t *testing.T) {
	c := config.Default()
	c.Listen, c.DataDir = "127.0.0.1:0", t.TempDir()
	for name, tc := range map[string]struct {
		db    Database
		err   error
		lines []string
	}{
		"not there":        {err: fs.ErrNotExist, lines: []string{"ok       database: ", "is not there yet: the first start makes it"}},
		"empty":            {db: Database{Newest: 17}, lines: []string{"ok       database: ", "is empty: the first start makes its tables"}},
		"older":            {db: Database{Version: 9, Newest: 17}, lines: []string{"warning  database: ", "has schema version 9, and this program makes it 17: make a backup, then start the server or run `belfry migrate`"}},
		"older and in use": {db: Database{Version: 9, Newest: 17, InUse: true}, lines: []string{"warning  database: ", "an older one works on it: stop that"}},
		"newer":            {db: Database{Version: 21, Newest: 17}, lines: []string{"FAULT    database: ", "has schema version 21, and this program knows 17: run the newer program"}},
		"another key":      {db: Database{Version: 17, Newest: 17, Sealed: 5, Unopened: 3}, lines: []string{"FAULT    secret key: 3 of 5 secrets"}},
		"another clock": {db: Database{Version: 17, Newest: 17, Shared: true, Ahead: 5 * time.Second, Within: time.Millisecond},
			lines: []string{"warning  clock: this machine's clock is 5s behind the database's", "NTP"}},
		"clock before": {db: Database{Version: 17, Newest: 17, Shared: true, Ahead: -5 * time.Second}, lines: []string{"warning  clock: this machine's clock is 5s ahead of the database's"}},
		"one clock":    {db: Database{Version: 17, Newest: 17, Shared: true, Ahead: time.Second}, lines: []string{"ok       clock: ", "as the database's"}},
		"a channel":    {db: Database{Version: 17, Newest: 17, Channels: []string{"sms of t: no"}}, lines: []string{"FAULT    channels: sms of t: no; nothing is sent by it"}},
		"a source": {db: Database{Version: 17, Newest: 17, Sources: []Finding{{Check: "source t/school", State: Fault, Detail: "no log: switch it on"}}},
			lines: []string{"FAULT    source t/school: no log: switch it on"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Patient{Config: c, Now: time.Now, Database: func(context.Context) (Database, error) { return tc.db, tc.err }}
			var b strings.Builder
			sound, err := Diagnosis(Out{Writer: &b}, &p.Config, Doctor(t.Context(), p))
			if err != nil || sound == strings.HasPrefix(tc.lines[0], "FAULT") {
				t.Error(sound, err)
			}
			for _, want := range tc.lines {
				if !strings.Contains(b.String(), want) {
					t.Errorf("not said: %s\n%s", want, b.String())
				}
			}
		})
	}
}

// What a running server says of itself is worth a line where somebody should
// see to it.
func TestDoctorBesideAServer(t *testing.T) {
	figures := `# HELP belfry_events_pending Accepted events that wait to be planned.
belfry_events_pending 12
belfry_deliveries_open 3.4e+06
belfry_destinations_broken 2
belfry_channels_used_up 1
belfry_tenant_limits_used_up 3
belfry_upkeep_waits 1
belfry_upkeep_last_round_timestamp_seconds 1.764e+09
belfry_sends_total{channel="email",outcome="retry"} 9
belfry_sends_total{channel="sms",outcome="retry"} 9
belfry_sends_total{channel="sms",outcome="accepted"} 1
belfry_database_up 0
belfry_source_failing{source="default/school"} 1
belfry_source_lag_seconds{source="default/school"} 7200
belfry_source_lag_seconds{source="default/other"} 2
`
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, figures)
		}
	}))
	defer server.Close()
	c := config.Default()
	c.Listen, c.DataDir = strings.TrimPrefix(server.URL, "http://"), t.TempDir()
	p := Patient{Config: c, Now: func() time.Time { return time.Unix(1764000000, 0).Add(3 * time.Hour) }, Database: func(context.Context) (Database, error) { return Database{}, fs.ErrNotExist }}
	said := func() string {
		var b strings.Builder
		_, err := Diagnosis(Out{Writer: &b}, &p.Config, Doctor(t.Context(), p))
		if err != nil {
			t.Error(err)
		}
		return b.String()
	}
	got := said()
	for _, want := range []string{
		"ok       work: 12 events wait to be planned, 3400000 deliveries want a send",
		"warning  work: none of 9 tries by the channel email succeeded since the server was started: `belfry deliveries list --channel email --state retrying`",
		"warning  work: 3 tenants' limits on channels are used up for today",
		"FAULT    work: the server cannot reach its database",
		"warning  work: 2 destinations fail", "belfry deliveries list --state retrying",
		"warning  work: 1 channels have used up", "warning  upkeep: nothing old is removed for now", "warning  upkeep: the last round of housekeeping ended 3h ago",
		"FAULT    source default/school: it fails: GET /v1/sources/school/status",
		"warning  source default/school: it is 2h behind",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if strings.Contains(got, "channel sms") {
		t.Error("a channel that works is told of")
	}
	if strings.Contains(got, "default/other") {
		t.Error("a source that is level is told of")
	}
	if t.Failed() {
		t.Log(got)
	}
	status = http.StatusForbidden
	if got := said(); !strings.Contains(got, "/metrics cannot be read: the answer is 403") {
		t.Error(got)
	}
}

// A test mail goes out when one is asked for, and its end is told.
func TestDoctorSendsATestMail(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := config.Default()
	c.Listen, c.DataDir = "127.0.0.1:0", t.TempDir()
	c.Channels = map[string]map[string]string{"email": {"url": "smtp://" + l.Addr().String()}}
	for want, ends := range map[string]error{
		"ok       mail: smtp://" + l.Addr().String() + " took a test mail to ada@example.org": nil,
		"took no test mail to ada@example.org: 550 no":                                        errors.New("550 no"),
	} {
		p := Patient{Config: c, Now: time.Now, Database: func(context.Context) (Database, error) { return Database{}, fs.ErrNotExist }, SendTo: "ada@example.org",
			Send: func(context.Context, string) error { return ends }}
		var b strings.Builder
		if sound, err := Diagnosis(Out{Writer: &b}, &p.Config, Doctor(t.Context(), p)); err != nil || sound != (ends == nil) || !strings.Contains(b.String(), want) {
			t.Errorf("not said: %s\n%s", want, b.String())
		}
	}
}

func TestOnlyOnePerson(t *testing.T) {
	people := []belfry.AnswerPerson{{Principal: "user/1", Outcome: belfry.Told}, {Endpoint: "ep_1", Outcome: belfry.Told}}
	if got := only(people, "ep_1"); len(got) != 1 || got[0].Endpoint != "ep_1" {
		t.Errorf("%+v", got)
	}
	got := only(people, "user/2")
	if len(got) != 1 || got[0].Principal != "user/2" || got[0].Outcome != belfry.NotTold || got[0].Because[0].Code != belfry.NobodyNamed {
		t.Errorf("%+v", got)
	}
}

func TestDoctor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret.key"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Listen = "127.0.0.1:0"
	c.DataDir = dir
	c.PublicURL = "https://notify.example.org"
	c.Channels = map[string]map[string]string{"email": {"url": "smtp://u:hunter2@" + l.Addr().String()}}
	broken := errors.New("the disk is full")
	db := Database{}
	p := Patient{Config: c, Now: func() time.Time { return time.Unix(0, 0) }, Room: func(string) int64 { return 1 << 20 },
		Database: func(context.Context) (Database, error) { return db, broken }}
	states := func(findings []Finding) map[string]string {
		m := map[string]string{}
		for _, f := range findings {
			m[f.Check] = f.State
		}
		return m
	}
	findings := Doctor(context.Background(), p)
	want := map[string]string{"data folder": OK, "secret key": Fault, "database": Fault, "listen": OK, "public address": OK, "clock": Fault, "mail": OK, "retention": OK, "disk": Warning}
	for check, state := range want {
		if got := states(findings)[check]; got != state {
			t.Errorf("%s: %s, want %s", check, got, state)
		}
	}
	var b strings.Builder
	sound, err := Diagnosis(Out{Writer: &b}, &p.Config, findings)
	if err != nil || sound || !strings.Contains(b.String(), "FAULT    database: sqlite:"+dir+": the disk is full") || strings.Contains(b.String(), "hunter2") {
		t.Error(sound, err, b.String())
	}

	// A disk on which nothing fits is a fault; one that nothing is known of is not told of.
	p.Room = func(string) int64 { return 0 }
	if got := states(Doctor(context.Background(), p))["disk"]; got != Fault {
		t.Errorf("a full disk: %q, want %s", got, Fault)
	}
	p.Room = func(string) int64 { return -1 }
	if got := states(Doctor(context.Background(), p))["disk"]; got != "" {
		t.Errorf("an unknown disk: %q, want nothing", got)
	}

	// A database without its key is a backup of which half was brought back.
	if err := os.Rename(filepath.Join(dir, "secret.key"), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if got := states(Doctor(context.Background(), p))["secret key"]; got != OK {
		t.Errorf("neither key nor database: %s, want %s", got, OK)
	}
	if err := os.WriteFile(filepath.Join(dir, "belfry.db"), []byte("rows"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := states(Doctor(context.Background(), p))["secret key"]; got != Warning {
		t.Errorf("a database without its key: %s, want %s", got, Warning)
	}
	if err := os.Rename(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "secret.key")); err != nil {
		t.Fatal(err)
	}

	// Well, but for what is only to be known.
	if err := os.Chmod(filepath.Join(dir, "secret.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken, db = nil, Database{Version: 17, Newest: 17, Size: 3 << 20, Free: 1 << 20}
	_ = l.Close()
	p.Now = time.Now
	got := states(Doctor(context.Background(), p))
	if got["secret key"] != OK || got["database"] != OK || got["clock"] != OK || got["mail"] != Fault {
		t.Error(got)
	}
	p.Config.Retention.Inbox = 0
	b.Reset()
	if _, err = Diagnosis(Out{Writer: &b}, &p.Config, Doctor(context.Background(), p)); err != nil || !strings.Contains(b.String(), "it has 3.0 MiB, 1.0 MiB of it free") ||
		!strings.Contains(b.String(), "warning  retention: events 90d, deliveries 90d, inbox for ever, audit 730d") {
		t.Error(err, b.String())
	}
	p.Channels = errors.New("channels.email: /settings/from: is required: From")
	b.Reset()
	if sound, err = Diagnosis(Out{Writer: &b}, &p.Config, Doctor(context.Background(), p)); err != nil || sound || !strings.Contains(b.String(), "FAULT    channels: channels.email: /settings/from: is required") {
		t.Error(sound, err, b.String())
	}
	p.Channels, broken = nil, fs.ErrNotExist
	p.Config.DataDir = filepath.Join(dir, "nothing")
	p.Config.Channels, p.Config.PublicURL = nil, ""
	got = states(Doctor(context.Background(), p))
	if got["data folder"] != OK || got["database"] != OK || got["mail"] != Warning || got["public address"] != Warning {
		t.Error(got)
	}
	b.Reset()
	if sound, err = Diagnosis(Out{Writer: &b, JSON: true}, &p.Config, Doctor(context.Background(), p)); err != nil || !sound || !json.Valid([]byte(b.String())) {
		t.Error(sound, err, b.String())
	}
}

// A manifest's secrets come from the environment where it says so.
// feature: CPS-32
func TestSecretsFromTheEnvironment(t *testing.T) {
	variable := func(name string) (string, bool) { return "smtp://u:hush@x", name == "MAIL" }
	got, err := fromEnvironment([]byte(`{"channels":[{"name":"email","settings":{"url":"secret: env MAIL","from":"a@b"}}],"filters":[{"filter":"secret: env MAIL"}]}`), variable)
	if want := `{"channels":[{"name":"email","settings":{"from":"a@b","url":"smtp://u:hush@x"}}],"filters":[{"filter":"secret: env MAIL"}]}`; err != nil || string(got) != want {
		t.Errorf("%s %v", got, err)
	}
	if _, err := fromEnvironment([]byte(`{"sources":[{"name":"s","settings":{"dsn":"secret: env NONE"}}]}`), variable); err == nil || !strings.Contains(err.Error(), "NONE is not set") {
		t.Errorf("%v", err)
	}
	if got, err := fromEnvironment([]byte(`["no manifest"]`), variable); err != nil || string(got) != `["no manifest"]` {
		t.Errorf("%s %v", got, err)
	}
}

// What a digest tells is told apart by its events.
func TestDeliveryInWords(t *testing.T) {
	for raw, want := range map[string]string{
		`{"id":"dlv_1","event":"evt_1","channel":"email","address":"x@example.org","state":"delivered","tries":1,"because":[{"text":"named by the subscription"}]}`: "dlv_1  delivered   evt_1  email to x@example.org  1 try  named by the subscription\n",
		`{"id":"dlv_2","digest":"bnd_1","channel":"email","address":"x@example.org","state":"retrying","tries":2,"last_attempt":{"detail":"450 later"}}`:            "dlv_2  retrying    bnd_1  email to x@example.org  2 tries  450 later\n",
		`{"id":"dlv_3","event":"evt_3","digest":"bnd_1","channel":"email","address":"x@example.org","state":"scheduled","tries":0}`:                                 "dlv_3  scheduled   evt_3  email to x@example.org  0 tries  \n",
	} {
		var b strings.Builder
		if err := printDelivery(Out{Writer: &b}, []byte(raw)); err != nil || b.String() != want {
			t.Errorf("got  %q, %v\nwant %q", b.String(), err, want)
		}
	}
}
