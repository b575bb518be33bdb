package moodle

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
)

// Values of the setting start.
const (
	startNow       = "now"
	startBeginning = "beginning"
)

// logTable is Moodle's own name of the table that is followed.
const logTable = "logstore_standard_log"

// Kind is the Moodle source.
func Kind() connector.Kind {
	return connector.Kind{
		Name: "moodle", Title: "Moodle",
		Settings: []connector.Setting{
			{Name: "dsn", Label: "Database", Type: connector.TypeDSN, Secret: true, Required: true, Help: "postgres://user:password@host/database or mysql://user:password@host/database (MariaDB too). An account that may only SELECT is enough and best."},
			{Name: "prefix", Label: "Prefix of the tables", Type: connector.TypeText, Default: "mdl_", Help: "$CFG->prefix of the site's config.php. Write - for none."},
			{Name: "wwwroot", Label: "Address of the site", Type: connector.TypeURL, Required: true, Help: "$CFG->wwwroot of the site's config.php: links begin with it."},
			{Name: "poll", Label: "Wait between two looks", Type: connector.TypeDuration, Default: "1s", Help: "One small query each time."},
			{Name: "start", Label: "Where to begin", Type: connector.TypeText, Default: startNow, Help: "now, beginning (all that is in the log), or the log id of the first event. It counts only until something was read."},
			{Name: "gap", Label: "Wait for missing log ids", Type: connector.TypeDuration, Default: "10s", Help: "How long an id that was skipped may still appear. Longer on clusters that write with delay."},
			{Name: "restored", Label: "Older than this is restored", Type: connector.TypeDuration, Default: "1h", Help: "A log row this much older than the newest one was written by a course restore; it is counted and left out."},
			{Name: "compare", Label: "Full comparison every", Type: connector.TypeDuration, Default: "6h", Help: "How often the whole directory is compared, for changes that left no event."},
			{Name: "statement_timeout", Label: "Longest statement", Type: connector.TypeDuration, Default: "10s", Help: "A query that takes longer is given up, on the server too."},
		},
		New:   newSource,
		Check: check,
	}
}

// config is the settings, read.
type config struct {
	dsn, prefix, wwwroot, start, log        string
	poll, gap, restored, compare, statement time.Duration
}

var prefixForm = regexp.MustCompile(`^[A-Za-z0-9_]{0,60}$`)

func readConfig(given map[string]string) (config, error) {
	v, err := connector.Values(Kind().Settings, given)
	if err != nil {
		return config{}, err
	}
	c := config{dsn: v["dsn"], prefix: v["prefix"], wwwroot: strings.TrimRight(v["wwwroot"], "/"), start: v["start"], log: logTable}
	if c.prefix == "-" {
		c.prefix = ""
	}
	var faults []belfry.Field
	if !prefixForm.MatchString(c.prefix) {
		faults = append(faults, belfry.Field{Pointer: "/settings/prefix", Message: "holds other signs than letters, digits and _"})
	}
	if c.start != startNow && c.start != startBeginning {
		if id, err := strconv.ParseInt(c.start, 10, 64); err != nil || id < 1 {
			faults = append(faults, belfry.Field{Pointer: "/settings/start", Message: "is neither now, beginning nor a log id"})
		}
	}
	for name, into := range map[string]*time.Duration{"poll": &c.poll, "gap": &c.gap, "restored": &c.restored, "compare": &c.compare, "statement_timeout": &c.statement} {
		if *into, err = time.ParseDuration(v[name]); err != nil {
			faults = append(faults, belfry.Field{Pointer: "/settings/" + name, Message: "is not a duration"})
		}
	}
	return c, belfry.Faults(faults)
}

func newSource(d connector.Deps, given map[string]string) (connector.Source, error) {
	c, err := readConfig(given)
	if err != nil {
		return nil, err
	}
	s := &source{deps: d, conf: c}
	if err := s.begin(); err != nil { // only the address can be wrong here: nothing is connected
		return nil, err
	}
	return s, s.db.Close()
}

func check(ctx context.Context, d connector.Deps, given map[string]string) []connector.Finding {
	c, err := readConfig(given)
	if err != nil {
		return []connector.Finding{{Severity: connector.SeverityError, What: err.Error(), Do: "correct the source's settings"}}
	}
	s := &source{deps: d, conf: c}
	if err := s.begin(); err != nil {
		return []connector.Finding{{Severity: connector.SeverityError, What: err.Error(), Do: "correct the setting dsn"}}
	}
	defer func() { _ = s.db.Close() }()
	return s.examine(ctx)
}
