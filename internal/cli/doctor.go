package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	// Database looks at the database without changing it; its error says what to
	// do, and is fs.ErrNotExist for one that is not there yet.
	Database func(ctx context.Context) (Database, error)
	// Room says how many bytes the disk of a folder still takes; below 0 = unknown.
	Room func(folder string) int64
	Now  func() time.Time
	// Channels says what keeps the configured channels from being opened, as
	// the server's start would; nil = nothing.
	Channels error
	// SendTo is where a test mail goes, by Send; empty = none is sent.
	SendTo string
	Send   func(ctx context.Context, address string) error
}

// Database is what was found of a database. All but the versions is of one
// whose schema is this program's.
type Database struct {
	Version, Newest  int64 // of its schema, and of this program's
	InUse            bool
	Size, Free       int64
	Shared           bool // it has a clock, which all its servers follow
	Ahead, Within    time.Duration
	Sealed, Unopened int // secrets that were tried with the configured keys
	// Channels is what is wrong with those that tenants set up; Sources is how
	// their sources find their platforms, a finding each.
	Channels []string
	Sources  []Finding
}

// Doctor examines a configuration and what it names: server, folder, key,
// database, retention, disk, address, clock, channels, sources, mail relay. It
// changes nothing.
func Doctor(ctx context.Context, p Patient) []Finding {
	d := examination{Patient: p}
	serving := d.server(ctx)
	d.folder()
	d.key()
	db := d.database(ctx)
	d.retention()
	d.address(serving)
	d.clock(db)
	d.channels(db)
	d.findings = append(d.findings, db.Sources...)
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
		d.say("server", Warning, "%s answers %s to /readyz: it starts or stops, cannot reach its database, or is not Belfry", at, resp.Status)
		return true
	}
	d.say("server", OK, "one runs at %s and is ready", at)
	d.figures(ctx, at)
	return true
}

// figures reads what a running server says of itself at /metrics and names what
// somebody should see to.
func (d *examination) figures(ctx context.Context, at string) {
	m, err := readMetrics(ctx, at)
	if err != nil {
		d.say("server", Warning, "%s/metrics cannot be read: %v", at, err)
		return
	}
	if _, known := m["belfry_events_pending"]; known {
		d.say("work", OK, "%.0f events wait to be planned, %.0f deliveries want a send", m.one("belfry_events_pending"), m.one("belfry_deliveries_open"))
	}
	if n := m.one("belfry_destinations_broken"); n > 0 {
		d.say("work", Warning, "%.0f destinations fail and are tried now and then: `belfry deliveries list --state retrying` shows whose and why", n)
	}
	tries, well := map[string]float64{}, map[string]float64{}
	for labels, n := range m["belfry_sends_total"] {
		channel, outcome, _ := strings.Cut(labels, "/")
		if tries[channel] += n; outcome == belfry.OutcomeDelivered.String() || outcome == belfry.OutcomeAccepted.String() {
			well[channel] += n
		}
	}
	for _, channel := range slices.Sorted(maps.Keys(tries)) {
		if tries[channel] > 0 && well[channel] == 0 {
			d.say("work", Warning, "none of %.0f tries by the channel %s succeeded since the server was started: `belfry deliveries list --channel %[2]s --state retrying` shows why", tries[channel], channel)
		}
	}
	if up, known := m["belfry_database_up"]; known && up[""] == 0 {
		d.say("work", Fault, "the server cannot reach its database: it goes on by itself when that is back")
	}
	if n := m.one("belfry_channels_used_up"); n > 0 {
		d.say("work", Warning, "%.0f channels have used up their max_per_day: what they should send waits for tomorrow, or raise the limit", n)
	}
	if n := m.one("belfry_tenant_limits_used_up"); n > 0 {
		d.say("work", Warning, "%.0f tenants' limits on channels are used up for today: GET /v1/tenants shows whose, and what they should send waits for tomorrow", n)
	}
	if m.one("belfry_upkeep_waits") > 0 {
		d.say("upkeep", Warning, "nothing old is removed for now, because the clock jumped or nobody kept house for a week: see that the clock is right; it goes on by itself")
	}
	last := m.one("belfry_upkeep_last_round_timestamp_seconds")
	if ago := d.Now().Sub(time.Unix(int64(last), 0)); last > 0 && ago > roundsLate {
		d.say("upkeep", Warning, "the last round of housekeeping ended %s ago: the log says what keeps it", belfry.FormatSpan(ago.Round(time.Minute)))
	}
	for name, v := range m["belfry_source_failing"] {
		if v > 0 {
			d.say("source "+name, Fault, "it fails: GET /v1/sources/%s/status says why, and below is what it finds now", sourceID(name))
		}
	}
	for name, v := range m["belfry_source_lag_seconds"] {
		if v > sourceLate {
			d.say("source "+name, Warning, "it is %s behind its platform: GET /v1/sources/%s/status says where it is", belfry.FormatSpan(time.Duration(v)*time.Second), sourceID(name))
		}
	}
}

// roundsLate is when housekeeping, which is done every hour, is missed, and
// sourceLate how many seconds a source may be behind.
const (
	roundsLate = 2 * time.Hour
	sourceLate = 300
)

// sourceID is a source of a figure's label tenant/id.
func sourceID(label string) string {
	_, id, _ := strings.Cut(label, "/")
	return id
}

// metrics are figures by name and by the values of their labels, with slashes
// between.
type metrics map[string]map[string]float64

func (m metrics) one(name string) float64 { return m[name][""] }

// readMetrics reads figures of a server in the text form of Prometheus.
func readMetrics(ctx context.Context, at string) (metrics, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	m := metrics{}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 4<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		label := ""
		if i := strings.IndexByte(name, '{'); i >= 0 {
			parts := strings.Split(lines.Text()[i:], `"`) // {label="value",other="value"} 1
			var labels []string
			for k := 1; k < len(parts); k += 2 {
				labels = append(labels, parts[k])
			}
			name, label, value = name[:i], strings.Join(labels, "/"), strings.TrimPrefix(parts[len(parts)-1], "} ")
		}
		v, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			continue
		}
		if m[name] == nil {
			m[name] = map[string]float64{}
		}
		m[name][label] = v
	}
	return m, lines.Err()
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

func (d *examination) database(ctx context.Context) Database {
	where := config.URL(d.Config.DatabaseURL()).String()
	db, err := d.Database(ctx)
	what := fmt.Sprintf("%s has schema version %d", where, db.Version)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.say("database", OK, "%s is not there yet: the first start makes it", where)
	case err != nil:
		d.say("database", Fault, "%s: %v", where, err)
	case db.Version == 0:
		d.say("database", OK, "%s is empty: the first start makes its tables", where)
	case db.Version > db.Newest:
		d.say("database", Fault, "%s, and this program knows %d: run the newer program that wrote it, or restore a backup made before the upgrade", what, db.Newest)
	case db.Version < db.Newest && db.InUse:
		d.say("database", Warning, "%s, this program makes it %d, and an older one works on it: stop that, make a backup, then start this program or run `belfry migrate`", what, db.Newest)
	case db.Version < db.Newest:
		d.say("database", Warning, "%s, and this program makes it %d: make a backup, then start the server or run `belfry migrate`", what, db.Newest)
	case db.Shared:
		d.say("database", OK, "%s, as this program; it has %s", what, inBytes(db.Size))
	default:
		d.say("database", OK, "%s, as this program; it has %s, %s of it free for new rows", what, inBytes(db.Size), inBytes(db.Free))
	}
	if db.Unopened > 0 {
		d.say("secret key", Fault, "%d of %d secrets in the database do not open with the configured keys, and webhooks cannot be signed: put the key the database was used with behind the new one in secret_key", db.Unopened, db.Sealed)
	}
	return db
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
// nobody accepts, and one that differs from the database's takes its time.
func (d *examination) clock(db Database) {
	now := d.Now()
	switch {
	case now.Year() < 2025:
		d.say("clock", Fault, "this machine says it is %s: set its clock, or webhooks are refused as too old", now.UTC().Format(time.RFC3339))
	case db.Shared && db.Ahead.Abs() > clockOff+db.Within:
		how := "behind"
		if db.Ahead < 0 {
			how = "ahead of"
		}
		d.say("clock", Warning, "this machine's clock is %v %s the database's: the server follows the database, but set both by a time service (NTP, chrony)", db.Ahead.Abs().Round(100*time.Millisecond), how)
	case db.Shared:
		d.say("clock", OK, "%s, as the database's", now.UTC().Format(time.RFC3339))
	default:
		d.say("clock", OK, "%s", now.UTC().Format(time.RFC3339))
	}
}

// clockOff is how far clocks may differ unsaid.
const clockOff = 2 * time.Second

// channels says what would stop the server at its start, and which channels of
// tenants it would leave out; well-formed ones need no line of their own.
func (d *examination) channels(db Database) {
	if d.Channels != nil {
		d.say("channels", Fault, "%v; the server does not start until this is corrected", d.Channels)
	}
	for _, wrong := range db.Channels {
		d.say("channels", Fault, "%s; nothing is sent by it until it is set up anew", wrong)
	}
}

// relay sees whether the mail relay takes connections, and a test mail where
// one is wanted.
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
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		d.say("mail", Fault, "%s cannot be reached: %v", shown, err)
		return
	}
	_ = conn.Close()
	if d.SendTo == "" {
		d.say("mail", OK, "%s takes connections; --send-to ADDRESS sends a test mail", shown)
		return
	}
	if err := d.Send(ctx, d.SendTo); err != nil {
		d.say("mail", Fault, "%s took no test mail to %s: %v", shown, d.SendTo, err)
		return
	}
	d.say("mail", OK, "%s took a test mail to %s: see that it arrives", shown, d.SendTo)
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
