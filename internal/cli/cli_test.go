package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
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
		},
		People: []belfry.AnswerPerson{
			{Principal: "user/1", Outcome: belfry.Told, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NamedRole, Role: "teacher", Object: "course/41"}})},
			{Principal: "user/8", Outcome: belfry.NotTold, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.IsActor}})},
			{Endpoint: "ep_1", Outcome: belfry.Told, Deliveries: []string{"dlv_1", "dlv_2", "dlv_inbox"}}, {Address: "x@example.org", Channel: "email", Outcome: belfry.NotTold},
		},
		Planned: true,
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

people
  told      user/1: holds a role the subscription names, role teacher, at course/41
  not told  user/8: did it themselves, and the subscription leaves out the actor
  told      endpoint ep_1: 
            webhook retrying, try 2, again 1970-01-01 00:00:00Z: GET /v1/deliveries/dlv_1
            email delivered: GET /v1/deliveries/dlv_2
  not told  <x@example.org> on email: 
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
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
	p := Patient{Config: c, Now: func() time.Time { return time.Unix(0, 0) }, Room: func(string) int64 { return 1 << 20 },
		Open: func(context.Context) (int64, int64, error) { return 3 << 20, 1 << 20, broken }}
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
	broken = nil
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
	p.Channels = nil
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
