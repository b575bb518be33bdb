package config_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/config"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const key = "kVqZ9lN2hRz0m8aFJ3uYxg5tQwB7cDsE1pLoKiHnMjU="

// write makes a configuration file.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "belfry.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func load(t *testing.T, src config.Sources) config.Config {
	t.Helper()
	c, err := config.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaultsNeedNothing(t *testing.T) {
	c := load(t, config.Sources{})
	if c.Listen != "127.0.0.1:8420" || c.DatabaseURL() != "sqlite:belfry-data" || c.OnPostgres() || c.Level().String() != "INFO" || c.AllowedOutbound() != nil {
		t.Errorf("%+v", c)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	file := write(t, `
listen: 127.0.0.1:1
data_dir: from-file
log:
  level: debug
secret_key: [`+key+`]
outbound_allow:
  - 127.0.0.0/8
  - ::1
channels:
  email:
    url: smtp://u:p@mail.example.org:25
    pool: 4
limits:
  window: 1_000
  drain: 3s
retention:
  events: 30d
  inbox: 0
ingest: {}
`)
	c := load(t, config.Sources{
		File: file,
		Environ: []string{"BELFRY_LISTEN=127.0.0.1:2", "BELFRY_DATA_DIR=from-env", "BELFRY_CHANNELS_EMAIL_FROM=School <news@example.org>", "BELFRY_CHANNELS_EMAIL_DKIM_DOMAIN=example.org",
			"BELFRY_LIMITS_PENDING_EVENTS=5", "BELFRY_RETENTION_AUDIT=12h", "BELFRY_LOG_LEVEL=", "PATH=/bin", "BELFRY_SERVER=http://x", "BELFRY_SERVICE_HOST=10.0.0.1", "BELFRY_PORT_8420_TCP=tcp://10.0.0.1"},
		Flags: map[string]string{"listen": "127.0.0.1:3"},
	})
	if c.Retention.Events != 30*24*time.Hour || c.Retention.Audit != 12*time.Hour || c.Retention.Inbox != 0 || c.Retention.Deliveries != 90*24*time.Hour {
		t.Errorf("%+v", c.Retention)
	}
	if c.Listen != "127.0.0.1:3" || c.DataDir != "from-env" || c.Log.Level != "debug" || c.Limits.PendingEvents != 5 || c.Limits.Window != 1000 || c.Limits.Drain != 3*time.Second {
		t.Errorf("%+v", c)
	}
	if got := c.AllowedOutbound(); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}) {
		t.Error(got)
	}
	email := c.Channels["email"]
	if email["url"] != "smtp://u:p@mail.example.org:25" || email["from"] != "School <news@example.org>" || email["dkim_domain"] != "example.org" || email["pool"] != "4" {
		t.Error(email)
	}
	if !slices.Equal(c.SecretKeys(), []string{key}) {
		t.Error("secret keys")
	}
	from := map[string]string{}
	for _, s := range c.Settings() {
		from[s.Key] = s.From
	}
	if from["listen"] != "flag for listen" || from["data_dir"] != "BELFRY_DATA_DIR" || from["log.level"] != file+": log.level" || from["database"] != "default" {
		t.Error(from)
	}
}

func TestEveryFaultIsNamedWithItsPlace(t *testing.T) {
	file := write(t, "lisen: x\nlog: debug\nlimits:\n  windw: 5\n  window: many\n  drain: soon\nsecret_key: [{}]\ndatabase: mysql://x\nchannels: 5\nzzzzzzzzzz: 1\n")
	_, err := config.Load(config.Sources{
		File: file,
		Environ: []string{"BELFRY_DATABSE=x", "BELFRY_LOG_FORMAT=xml", "BELFRY_PUBLIC_URL=notify.example.org", "BELFRY_OUTBOUND_ALLOW=10.0.0.0/8 10.0.0.300", "BELFRY_BOOTSTRAP_KEY=short",
			"BELFRY_LIMITS=5", "BELFRY_CHANNELS_EMAIL=smtp://x"},
		Flags: map[string]string{"listen": "8420", "log-level": "info", "data_dir": ""},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		file + ": lisen: is no setting: did you mean listen (BELFRY_LISTEN)?",
		file + ": log: is a section: set log.level or log.format",
		file + ": limits.windw: is no setting: did you mean limits.window (BELFRY_LIMITS_WINDOW)?",
		file + `: limits.window: "many" is no whole number`,
		file + `: limits.drain: "soon" is no duration: write it like 10s or 2m`,
		file + ": secret_key: must be a list of plain values",
		file + ": database: must begin with sqlite: or postgres://",
		file + ": channels: a channel's settings are written channels.name.setting, like channels.email.url",
		file + ": zzzzzzzzzz: is no setting: docs/configuration.md lists them",
		"BELFRY_DATABSE: is no setting: did you mean database (BELFRY_DATABASE)?",
		`BELFRY_LOG_FORMAT: "xml" must be one of text, json`,
		`BELFRY_PUBLIC_URL: "notify.example.org" must be like https://notify.example.org, a path allowed, nothing more`,
		`BELFRY_OUTBOUND_ALLOW: "10.0.0.300" is no network: write it like 10.1.0.0/16 or 127.0.0.1`,
		"BELFRY_BOOTSTRAP_KEY: must have 16 to 512 characters: make one with `head -c 32 /dev/urandom | base64`",
		"BELFRY_LIMITS: is a section: set limits.pending_events or limits.window or limits.drain",
		"BELFRY_CHANNELS_EMAIL: a channel's settings are written channels.name.setting, like channels.email.url",
		`flag for listen: "8420" is no address to listen on: write it like 127.0.0.1:8420, or :8420 for all of this machine's`,
		"flag for log-level: is no setting: did you mean log.level (BELFRY_LOG_LEVEL)?",
	} {
		if !strings.Contains(err.Error(), "\n  "+want+"\n") && !strings.HasSuffix(err.Error(), "\n  "+want) {
			t.Errorf("not said: %s", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		src  config.Sources
		want string
	}{
		"no file":           {config.Sources{File: "/nowhere/belfry.yaml"}, "cannot be read"},
		"no YAML":           {config.Sources{File: write(t, "a: [")}, "is not YAML"},
		"no keys":           {config.Sources{File: write(t, "- a\n- b\n")}, "is not YAML with keys and values"},
		"PostgreSQL alone":  {config.Sources{Flags: map[string]string{"database": "postgres://u:hunter2@h/d"}}, "make one with `head -c 32 /dev/urandom | base64`"},
		"short secret":      {config.Sources{Environ: []string{"BELFRY_SECRET_KEY=aHVudGVyMg=="}}, "key 1 of 1 is not 32 bytes in base64"},
		"second secret":     {config.Sources{Environ: []string{"BELFRY_SECRET_KEY=" + key + ",x"}}, "key 2 of 2"},
		"spaces in a key":   {config.Sources{Environ: []string{"BELFRY_BOOTSTRAP_KEY=hunter2 hunter2 hunter2"}}, "plain ASCII"},
		"sqlite nowhere":    {config.Sources{Environ: []string{"BELFRY_DATABASE=sqlite:"}}, "names no file"},
		"listen with a URL": {config.Sources{Environ: []string{"BELFRY_LISTEN=http://x:80"}}, "listen"},
		"port":              {config.Sources{Environ: []string{"BELFRY_LISTEN=:99999"}}, "no port from 0 to 65535"},
		"retention":         {config.Sources{Environ: []string{"BELFRY_RETENTION_INBOX=30m"}}, "BELFRY_RETENTION_INBOX: 30m must be from 1h to 36500d, or 0"},
		"window":            {config.Sources{Environ: []string{"BELFRY_LIMITS_WINDOW=1"}}, "must be from 64"},
	} {
		_, err := config.Load(c.src)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the message shows a secret: %v", name, err)
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	c := load(t, config.Sources{
		Environ: []string{"BELFRY_SECRET_KEY=" + key, "BELFRY_BOOTSTRAP_KEY=hunter2-hunter2-hunter2", "BELFRY_DATABASE=postgres://u:hunter2@h/d?sslpassword=hunter2",
			"BELFRY_CHANNELS_EMAIL_URL=smtp://u:hunter2@h", "BELFRY_CHANNELS_EMAIL_DKIM_KEY=hunter2", "BELFRY_CHANNELS_EMAIL_FROM=School <a@example.org>"},
	})
	raw, err := json.Marshal(c.Settings())
	if err != nil {
		t.Fatal(err)
	}
	direct, err := json.Marshal([]any{c.SecretKey, c.BootstrapKey, c.Database})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{c.String(), fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s", c, c, c, c), string(raw), string(direct), fmt.Sprint(c.SecretKey, c.Database), fmt.Sprintf("%#v %q", c.SecretKey, c.BootstrapKey)} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, key[:20]) {
			t.Errorf("shows a secret: %s", text)
		}
	}
	if !strings.Contains(c.String(), "School <a@example.org>") || !strings.Contains(c.String(), "smtp://u:xxxxx@h") {
		t.Error(c.String())
	}
}

// The reference is the struct's own words.
func TestReferenceIsUpToDate(t *testing.T) {
	const file = "../../docs/configuration.md"
	want := config.Reference()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the struct says: run go test ./internal/config -update", file)
	}
	for _, f := range config.Fields() {
		if f.Help == "" || f.Form == "" {
			t.Errorf("%s has no help", f.Key)
		}
	}
	// The example in it must load.
	_, example, _ := strings.Cut(want, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	load(t, config.Sources{File: write(t, example)})
}
