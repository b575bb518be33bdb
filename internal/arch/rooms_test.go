package arch_test

// room is the row of one package. Order is the order in which an event walks
// the house, and the order of docs/ARCHITECTURE.md.
type room struct {
	path string // below the module's root
	// may lists our packages it may import, below internal/. "*" is all.
	may string
	// pure rooms do no I/O and read no clock: time and facts are arguments.
	pure bool
	// clock says why the room may read the clock; empty = it may not.
	clock string
	// modules are the third-party modules it may import, with the reason.
	modules map[string]string
	// testing rooms exist for tests: no other room imports them outside tests.
	testing bool
	// suite is the conformance suite its tests must call.
	suite string
}

var rooms = []room{
	{path: "cmd/belfry", may: "app backup bench cli client config connector demo secret store", clock: "it is the edge", modules: map[string]string{
		"github.com/alecthomas/kong": "flags and help",
		"golang.org/x/sync":          "runs the server and the show together",
	}},
	{path: "internal/cli", may: "auth belfry client config", modules: map[string]string{
		"go.yaml.in/yaml/v3": "manifests",
	}},
	{path: "internal/client"},
	{path: "internal/config", may: "belfry", modules: map[string]string{
		"github.com/knadh/koanf/v2":               "layers of configuration",
		"github.com/knadh/koanf/maps":             "its maps",
		"github.com/knadh/koanf/parsers/yaml":     "belfry.yaml",
		"github.com/knadh/koanf/providers/env/v2": "BELFRY_ variables",
	}},
	{path: "internal/belfry"},
	{path: "internal/words", may: "belfry", pure: true, modules: map[string]string{
		"github.com/nicksnyder/go-i18n/v2": "texts and plurals",
		"github.com/go-playground/locales": "dates",
		"golang.org/x/text":                "which language is closest, and numbers",
	}},

	// The way in.
	{path: "internal/connector", may: "belfry"},
	{path: "internal/connector/connectortest", may: "belfry connector", testing: true},
	{path: "internal/connector/sqlread", may: "belfry", modules: map[string]string{
		"github.com/go-sql-driver/mysql": "reads platforms on MariaDB and MySQL",
		"github.com/jackc/pgx/v5":        "reads platforms on PostgreSQL",
	}},
	{path: "internal/connector/moodle", may: "belfry connector connector/sqlread", suite: "internal/connector/connectortest", modules: map[string]string{
		"github.com/hashicorp/golang-lru/v2": "bounded memory of names",
	}},
	{path: "internal/ingest", may: "belfry", modules: map[string]string{
		"github.com/hashicorp/golang-lru/v2":       "bounded cache of compiled schemas",
		"github.com/santhosh-tekuri/jsonschema/v6": "JSON Schema of event data",
		"golang.org/x/text":                        "its messages",
	}},

	// The stages, in the order of the walk.
	{path: "internal/expr", may: "belfry words", pure: true, modules: map[string]string{"cel.dev/cel-go": "the expression language"}},
	{path: "internal/condition", may: "belfry", pure: true},
	{path: "internal/match", may: "belfry expr", pure: true},
	{path: "internal/resolve", may: "belfry expr", pure: true},
	{path: "internal/route", may: "belfry expr", pure: true},
	{path: "internal/render", may: "belfry words", pure: true, modules: map[string]string{
		"github.com/cbroglie/mustache":       "what tenants write",
		"github.com/yuin/goldmark":           "Markdown",
		"github.com/microcosm-cc/bluemonday": "sanitises what leaves",
		"golang.org/x/net":                   "reads HTML, for the text part",
	}},
	{path: "internal/directory", may: "belfry resolve", modules: map[string]string{"github.com/hashicorp/golang-lru/v2": "bounded caches over the store"}},

	// The way out.
	{path: "internal/outbound", clock: "deadlines of connections", modules: map[string]string{"code.dny.dev/ssrf": "which addresses are inner ones"}},
	{path: "internal/channel", may: "belfry"},
	{path: "internal/channel/channeltest", may: "belfry channel", testing: true, modules: map[string]string{"go.uber.org/goleak": "senders leave no goroutine"}},
	{path: "internal/channel/email", may: "belfry channel outbound", suite: "internal/channel/channeltest", clock: "deadlines of connections", modules: map[string]string{
		"github.com/emersion/go-msgauth": "DKIM",
		"github.com/wneessen/go-mail":    "writes messages and speaks SMTP",
		"golang.org/x/net":               "addresses in any script",
	}},
	{path: "internal/channel/inbox", may: "belfry channel"},
	{path: "internal/channel/script", may: "belfry channel", suite: "internal/channel/channeltest"},
	{path: "internal/channel/webhook", may: "belfry channel outbound", suite: "internal/channel/channeltest", modules: map[string]string{
		"golang.org/x/net": "which header fields are valid",
	}},
	{path: "internal/pipeline", may: "belfry channel condition directory expr match render resolve route words", modules: map[string]string{
		"github.com/hashicorp/golang-lru/v2": "bounded cache of readers",
		"golang.org/x/time":                  "rates of endpoints",
	}},

	{path: "internal/nodes", may: "belfry"},
	{path: "internal/upkeep", may: "belfry"},

	{path: "internal/jobs", may: "belfry"},

	// The floor.
	{path: "internal/store", may: "belfry store/migrations", modules: map[string]string{
		"modernc.org/sqlite":                 "SQLite, without cgo",
		"github.com/jackc/pgx/v5":            "PostgreSQL",
		"github.com/pressly/goose/v3":        "migrations",
		"github.com/go-json-experiment/json": "reads events back",
		"golang.org/x/sys":                   "the lock of the data folder on Windows",
	}},
	{path: "internal/store/migrations"},
	{path: "internal/store/storetest", may: "belfry store testdb", testing: true, modules: map[string]string{"github.com/google/go-cmp": "says what differs"}},

	{path: "internal/backup", may: "store"},

	// The doors for people and programs.
	{path: "internal/secret", modules: map[string]string{"golang.org/x/crypto": "authenticated encryption"}},
	{path: "internal/auth", may: "belfry", modules: map[string]string{
		"github.com/hashicorp/golang-lru/v2": "bounded memory of proven keys",
		"golang.org/x/time":                  "rate of wrong keys",
	}},
	{path: "internal/manage", may: "belfry words condition expr render secret"},
	{path: "internal/web/api", may: "auth belfry ingest manage words", clock: "deadlines of connections", modules: map[string]string{
		"github.com/danielgtaylor/huma/v2": "routes and their description in one",
		"github.com/swaggest/swgui":        "the API browser, offline",
	}},
	{path: "internal/web/ui", may: "belfry words"},

	// What puts it together, shows it and measures it.
	{path: "internal/app", may: "*", clock: "hands the clock to everybody", modules: map[string]string{
		"github.com/hashicorp/golang-lru/v2":  "bounded cache of templates",
		"github.com/prometheus/client_golang": "the page of metrics",
	}},
	{path: "internal/demo", may: "belfry client web/ui", modules: map[string]string{
		"github.com/emersion/go-smtp":                              "the mail server that catches",
		"github.com/emersion/go-message":                           "takes caught mail apart",
		"github.com/standard-webhooks/standard-webhooks/libraries": "verifies webhooks as a receiver would",
		"golang.org/x/sync":                                        "runs both servers",
	}},
	{path: "internal/bench", may: "belfry channel client config directory match pipeline resolve store", clock: "it measures time", modules: map[string]string{
		"github.com/jackc/pgx/v5": "empties the PostgreSQL database it was given",
	}},
	{path: "internal/testdb", testing: true, modules: map[string]string{
		"github.com/jackc/pgx/v5":        "talks to the servers it starts",
		"github.com/go-sql-driver/mysql": "talks to the servers it starts",
	}},
	{path: "internal/testtime", testing: true},
	{path: "internal/doctest", testing: true},
	{path: "internal/faults", testing: true},
	{path: "internal/e2e", testing: true},
	{path: "internal/arch", testing: true},
	{path: "examples/authoriser", clock: "a platform's program, not a room"},
}
