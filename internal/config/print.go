package config

import (
	_ "embed"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Setting is a key with its value, as it may be shown to anybody.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"` // secrets masked
	From  string `json:"from"`  // where it was set; "default" when nowhere
}

// Settings are all keys with their values, channels last.
func (c *Config) Settings() []Setting {
	var list []Setting
	add := func(key, value string) {
		from := c.origins[key]
		if from == "" {
			from = "default"
		}
		list = append(list, Setting{Key: key, Value: value, From: from})
	}
	for _, f := range Fields() {
		if f.Key != "channels" {
			add(f.Key, show(reflect.ValueOf(c).Elem().FieldByIndex(f.index)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Channels)) {
		for _, setting := range slices.Sorted(maps.Keys(c.Channels[name])) {
			value := c.Channels[name][setting]
			if secretName(setting) {
				value = Secret(value).String()
			}
			add("channels."+name+"."+setting, redact(value))
		}
	}
	return list
}

// String is the configuration in the form of belfry.yaml's keys, secrets
// masked.
func (c Config) String() string {
	var b strings.Builder
	for _, s := range c.Settings() {
		fmt.Fprintf(&b, "%s: %s\n", s.Key, s.Value)
	}
	return b.String()
}

// GoString is String, so that no way of printing shows a secret.
func (c Config) GoString() string { return c.String() }

// Reference is docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Nothing needs to be configured to begin. Values come from, later ones winning:

1. the defaults below,
2. ` + "`belfry.yaml`" + ` in the working folder, or the file named by ` + "`--config`" + ` or ` + "`BELFRY_CONFIG`" + `,
3. environment variables,
4. flags: the common ones by name (` + "`belfry serve --help`" + `), any of them as ` + "`--set key=value`" + `.

A key that does not exist is an error that names the nearest one that does, wherever it is
written. Lists are YAML lists, or text with commas between. Secrets are masked wherever the
configuration is printed; ` + "`belfry doctor`" + ` prints it with where each value came from.

| key | variable | value | default | what it does |
|---|---|---|---|---|
`)
	for _, f := range Fields() {
		def := "`" + f.Default + "`"
		if f.Default == "" {
			def = "–"
		}
		variable := EnvName(f.Key)
		key := f.Key
		if key == "channels" {
			key, variable = "channels.name.setting", "BELFRY_CHANNELS_NAME_SETTING"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", key, variable, f.Form, def, strings.ReplaceAll(f.Help, "|", `\|`))
	}
	b.WriteString(`
Commands that talk to a server (all but ` + "`serve`, `demo`, `bench`, `doctor`, `backup`, `restore`, `migrate` and `version`" + `) read ` + "`BELFRY_SERVER`" + ` (its address),
` + "`BELFRY_KEY`" + ` (a key) and, with a root key, ` + "`BELFRY_TENANT`" + `.

The same in a file:

` + "```yaml" + `
listen: 0.0.0.0:8420
public_url: https://notify.example.org
database: postgres://belfry:password@db.example.org/belfry
secret_key:
  - kVqZ9lN2hRz0m8aFJ3uYxg5tQwB7cDsE1pLoKiHnMjU=
channels:
  email:
    url: smtps://user:password@mail.example.org
    from: School <news@example.org>
    max_per_second: 10
    max_per_day: 20000
log:
  format: json
` + "```" + `

A channel that sends to addresses keeps to what its provider allows: ` + "`max_per_second` and `max_per_day`" + ` (0 or empty = no limit)
count the sends of all processes of the service and, for a channel of this file, of all tenants; a tenant's own channel has its own.
Seconds are those of the clock, days go from midnight to midnight UTC. What finds the limit used up waits: no try is counted, what
is urgent goes first, other channels go on. When a day's limit is used up the log says so once, ` + "`belfry_channels_used_up`" + ` in
` + "`/metrics`" + ` is above 0, and what waits is due at the next midnight; a limit that is raised meanwhile counts for what comes
after. A process that is killed loses what it had taken and not sent: a hundredth of the day's limit (one at least, 256 at most).

A root key bounds what one tenant may send by a channel of this file, over all its people and all processes: ` + "`limits`" + ` of
` + "`PUT /v1/tenants/{name}`, by channel `per_minute` and `per_day`, for the tenant `default`" + ` as well. It is counted in the same way, beside
the channel's own limits: what is over it waits, takes nothing of what the others may send, and the delivery and the trace say
` + "`tenant_limit` with the time (of a channel's own limit of the day: `account_limit`)" + `. A channel that a tenant sets up itself is its own affair.
How much is used, what remains and when it frees is ` + "`usage` of `GET /v1/tenants/{name}` for a root key, and of `GET /v1/channels`" + ` and
` + "`/v1/channels/{name}`" + ` for the tenant's own keys; what servers have set aside to be sent next counts as used. When a day's is used up
the log says so once, and ` + "`belfry_tenant_limits_used_up` in `/metrics`" + ` is above 0.
`)
	b.WriteString(scripts)
	return b.String()
}

// scripts is the part of the reference on channels that are programs, which
// goes into one piece of text better than into tags.
//
//go:embed scripts.md
var scripts string
