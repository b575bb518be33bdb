package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok | warning | fault
	Detail string `json:"detail"`
}

// States of a finding.
const (
	OK      = "ok"
	Warning = "warning"
	Fault   = "fault"
)

// Patient is what Doctor examines.
type Patient struct {
	Config config.Config
	// Open opens the database and closes it again, and says how many bytes it
	// has and how many of them are free; its error says what to do.
	Open func(ctx context.Context) (size, free int64, err error)
	// Room says how many bytes the disk of a folder still takes; below 0 = unknown.
	Room func(folder string) int64
	Now  func() time.Time
	// Channels says what keeps the configured channels from being opened, as
	// the server's start would; nil = nothing.
	Channels error
}

// Doctor examines a configuration and what it names: folder, key, database,
// retention, disk, address, mail relay. It changes nothing but the schema of the database, as
// starting the server would.
func Doctor(ctx context.Context, p Patient) []Finding {
	d := examination{Patient: p}
	serving := d.server(ctx)
	d.folder()
	d.key()
	d.database(ctx, serving)
	d.retention()
	d.address(serving)
	d.clock()
	d.channels()
	d.relay(ctx)
	return d.findings
}

type examination struct {
	Patient
	findings []Finding
}

func (d *examination) say(check, state, format string, args ...any) {
	d.findings = append(d.findings, Finding{Check: check, State: state, Detail: fmt.Sprintf(format, args...)})
}

// server asks whether one answers at the configured address.
func (d *examination) server(ctx context.Context) bool {
	host, port, err := net.SplitHostPort(d.Config.Listen)
	if err != nil || port == "0" {
		return false
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	at := "http://" + net.JoinHostPort(host, port)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.say("server", OK, "none runs at %s now", at)
		return false
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		d.say("server", Warning, "%s answers %s to /readyz: it starts, stops, or is not Belfry", at, resp.Status)
		return true
	}
	d.say("server", OK, "one runs at %s and is ready", at)
	return true
}

func (d *examination) folder() {
	if d.Config.Database != "" && d.Config.OnPostgres() {
		return
	}
	dir := d.Config.DataDir
	info, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		d.say("data folder", OK, "%s is not there yet: the first start makes it", dir)
		return
	case err != nil:
		d.say("data folder", Fault, "%s cannot be read: %v", dir, err)
		return
	case !info.IsDir():
		d.say("data folder", Fault, "%s is no folder: name another with data_dir", dir)
		return
	}
	f, err := os.CreateTemp(dir, "doctor")
	if err != nil {
		d.say("data folder", Fault, "%s cannot be written: %v; run as its owner, or name another with data_dir", dir, err)
		return
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	d.say("data folder", OK, "%s can be written", dir)
}

func (d *examination) key() {
	if n := len(d.Config.SecretKey); n > 0 {
		d.say("secret key", OK, "%d configured: the first encrypts, all are accepted", n)
		return
	}
	file := filepath.Join(d.Config.DataDir, "secret.key")
	info, err := os.Stat(file)
	switch {
	case os.IsNotExist(err) && d.made():
		d.say("secret key", Warning, "%s is missing, and there is a database: if it was used before, put the key back from your backup", file)
	case os.IsNotExist(err):
		d.say("secret key", OK, "none yet: the first start makes %s", file)
	case err != nil:
		d.say("secret key", Fault, "%s cannot be read: %v", file, err)
	case info.Mode().Perm()&0o077 != 0:
		d.say("secret key", Fault, "%s may be read by others: chmod 600 it", file)
	default:
		d.say("secret key", OK, "%s; keep a copy with your backups, without it stored secrets are lost", file)
	}
}

// made reports whether there is an SQLite database.
func (d *examination) made() bool {
	path, ok := strings.CutPrefix(d.Config.DatabaseURL(), "sqlite:")
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "belfry.db")
	}
	info, err := os.Stat(path)
	return ok && err == nil && info.Size() > 0
}

func (d *examination) database(ctx context.Context, serving bool) {
	where := config.URL(d.Config.DatabaseURL()).String()
	if serving {
		d.say("database", OK, "%s is not opened: a server works on it", where)
		return
	}
	if path, ok := strings.CutPrefix(d.Config.DatabaseURL(), "sqlite:"); ok {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			d.say("database", OK, "%s is not there yet: the first start makes it", where)
			return
		}
	}
	size, free, err := d.Open(ctx)
	if err != nil {
		d.say("database", Fault, "%s: %v", where, err)
		return
	}
	d.say("database", OK, "%s opens and its schema is current; it has %s, %s of it free for new rows", where, inBytes(size), inBytes(free))
}

// retention says how long things are kept, and whether the disk has room.
func (d *examination) retention() {
	r := &d.Config.Retention
	kept := func(t time.Duration) string {
		if t == 0 {
			return "for ever"
		}
		return belfry.FormatSpan(t)
	}
	state, more := OK, ""
	switch {
	case r.Events == 0 || r.Deliveries == 0 || r.Inbox == 0:
		state, more = Warning, "; what is kept for ever fills the disk one day"
	case r.Inbox > r.Events:
		more = "; events with an inbox entry are kept as long as it is"
	}
	d.say("retention", state, "events %s, deliveries %s, inbox %s, audit %s%s", kept(r.Events), kept(r.Deliveries), kept(r.Inbox), kept(r.Audit), more)
	if d.Config.OnPostgres() || d.Room == nil {
		return
	}
	folder := d.Config.DataDir
	if path, ok := strings.CutPrefix(d.Config.DatabaseURL(), "sqlite:"); ok {
		folder = path
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			folder = filepath.Dir(path)
		}
	}
	switch room := d.Room(folder); {
	case room < 0: // the folder is not there yet, or the system does not say
	case room < fullRoom:
		d.say("disk", Fault, "%s is full: make room; what was accepted is not lost, and new events are answered 503 until then", folder)
	case room < leastRoom:
		d.say("disk", Warning, "%s has room for %s only: make room, or keep things for less long", folder, inBytes(room))
	default:
		d.say("disk", OK, "%s has room for %s; docs/scale.md says how much events take", folder, inBytes(room))
	}
}

// leastRoom is what a disk should have left: log and housekeeping take some.
const leastRoom = 1 << 30

// fullRoom is less than the database takes at a time.
const fullRoom = 1 << 20

// inBytes writes a number of bytes for people.
func inBytes(n int64) string {
	f, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

func (d *examination) address(serving bool) {
	if !serving {
		l, err := net.Listen("tcp", d.Config.Listen)
		if err != nil {
			d.say("listen", Fault, "%s cannot be bound: %v; choose another with listen", d.Config.Listen, err)
		} else {
			_ = l.Close()
			d.say("listen", OK, "%s is free", d.Config.Listen)
		}
	}
	host, _, _ := net.SplitHostPort(d.Config.Listen)
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	switch u, err := url.Parse(d.Config.PublicURL); {
	case d.Config.PublicURL == "" && local:
		d.say("public address", Warning, "public_url is not set and the server listens on this machine only: links in messages work for nobody else")
	case d.Config.PublicURL == "":
		d.say("public address", Warning, "public_url is not set: links in messages would lead to %s", d.Config.Listen)
	case err == nil && u.Scheme == "http" && !local:
		d.say("public address", Warning, "%s is not https: keys travel in clear unless something in front encrypts", d.Config.PublicURL)
	default:
		d.say("public address", OK, "%s", d.Config.PublicURL)
	}
}

// clock: a machine whose clock was never set makes ids and signatures that
// nobody accepts.
func (d *examination) clock() {
	if now := d.Now(); now.Year() < 2025 {
		d.say("clock", Fault, "this machine says it is %s: set its clock, or webhooks are refused as too old", now.UTC().Format(time.RFC3339))
		return
	}
	d.say("clock", OK, "%s", d.Now().UTC().Format(time.RFC3339))
}

// channels says what would stop the server at its start; well-formed ones
// need no line of their own.
func (d *examination) channels() {
	if d.Channels != nil {
		d.say("channels", Fault, "%v; the server does not start until this is corrected", d.Channels)
	}
}

// relay sees whether the mail relay takes connections; a test mail is sent by
// POST /v1/channels/email/test of a running server.
func (d *examination) relay(ctx context.Context) {
	settings := d.Config.Channels["email"]
	if settings["url"] == "" {
		d.say("mail", Warning, "channels.email.url is not set: nobody is told by e-mail")
		return
	}
	shown := config.URL(settings["url"]).String()
	u, err := url.Parse(settings["url"])
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		d.say("mail", Fault, "channels.email.url must be like smtp://user:password@host:port or smtps://…")
		return
	}
	port := u.Port()
	if port == "" {
		switch {
		case u.Scheme == "smtps":
			port = "465"
		case u.User != nil:
			port = "587"
		default:
			port = "25"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		d.say("mail", Fault, "%s cannot be reached: %v", shown, err)
		return
	}
	_ = conn.Close()
	d.say("mail", OK, "%s takes connections; POST /v1/channels/email/test sends a test mail", shown)
}

// Diagnosis prints findings and the settings they are about; it reports
// whether there was no fault.
func Diagnosis(out Out, c *config.Config, findings []Finding) (bool, error) {
	sound := true
	for _, f := range findings {
		sound = sound && f.State != Fault
	}
	if out.JSON {
		return sound, out.Value(map[string]any{"sound": sound, "findings": findings, "settings": c.Settings()})
	}
	for _, s := range c.Settings() {
		if s.From != "default" {
			if err := out.Line("  %s = %s   (%s)", s.Key, clean(s.Value), s.From); err != nil {
				return sound, err
			}
		}
	}
	for _, f := range findings {
		mark := map[string]string{OK: "ok     ", Warning: "warning", Fault: "FAULT  "}[f.State]
		if err := out.Line("%s  %s: %s", mark, f.Check, clean(f.Detail)); err != nil {
			return sound, err
		}
	}
	return sound, nil
}
