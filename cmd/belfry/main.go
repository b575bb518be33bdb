// Command belfry tells people and programs what happened, in the way each of
// them chose: the server and everything to work with it.
//
// One file a command; what commands do is in the packages below internal/.
// Exit codes: 0 done, 1 failed, 2 wrong use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/belfryhq/belfry/internal/cli"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// commands are the flags of everything.
type commands struct {
	Serve         serveCmd         `cmd:"" help:"Run the server."`
	Demo          demoCmd          `cmd:"" help:"Run a small school with everything in one process, to see what Belfry does."`
	Publish       publishCmd       `cmd:"" help:"Publish an event to a server."`
	Tail          tailCmd          `cmd:"" help:"Show the latest events of a server, and go on with -f."`
	Explain       explainCmd       `cmd:"" help:"Say who is told of an event and who is not, and why."`
	Backtest      backtestCmd      `cmd:"" help:"Say what a subscription would have sent, by the events of the past."`
	Subscriptions subscriptionsCmd `cmd:"" help:"List, show, pause, resume, end, import and export subscriptions."`
	Members       membersCmd       `cmd:"" help:"Who joined a subscription: list, add, drop, import and export."`
	Subscribe     subscribeCmd     `cmd:"" help:"Subscribe a user to types of events."`
	Join          joinCmd          `cmd:"" help:"Let a user or an address join a subscription by themselves, if it lets them."`
	Leave         leaveCmd         `cmd:"" help:"Let a user or an address leave a subscription."`
	Invite        inviteCmd        `cmd:"" help:"Ask users and addresses whether they want to join a subscription."`
	Presets       presetsCmd       `cmd:"" help:"Predefined subscriptions, and where they are switched on."`
	Deliveries    deliveriesCmd    `cmd:"" help:"List, show, retry and cancel deliveries."`
	Digests       digestsCmd       `cmd:"" help:"List, show and send what waits to be told together."`
	Replay        replayCmd        `cmd:"" help:"Plan stored events anew, with today's subscriptions and people."`
	Jobs          jobsCmd          `cmd:"" help:"List, show and cancel long work."`
	Apply         applyCmd         `cmd:"" help:"Bring the configuration of a server to what a manifest says; --dry-run shows what would change."`
	Export        exportCmd        `cmd:"" help:"Write the configuration of a server as a manifest."`
	Users         usersCmd         `cmd:"" help:"Give out, or erase, all that is held about a person."`
	Keys          keysCmd          `cmd:"" help:"Make, list and revoke keys of a server."`
	Bench         benchCmd         `cmd:"" help:"Measure Belfry on this machine, beside the raw ceiling of its loopback."`
	Doctor        doctorCmd        `cmd:"" help:"Check configuration, database, address and mail relay, and say what to do."`
	Backup        backupCmd        `cmd:"" help:"Write the database and its key to one file, while the server runs."`
	Restore       restoreCmd       `cmd:"" help:"Bring a backup back into an empty data folder."`
	Migrate       migrateCmd       `cmd:"" help:"Bring the database to this program's schema and exit."`
	Version       versionCmd       `cmd:"" help:"Say which program this is."`
}

// world is what commands touch of the process.
type world struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ []string
}

// usage is an error of use, not of doing.
type usage struct{ error }

func main() {
	os.Exit(run(os.Args[1:], world{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()}))
}

// run is the program: its exit code for its arguments.
func run(args []string, w world) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c, kong.Name("belfry"),
		kong.Description("Belfry tells people and programs what happened, in the way each of them chose.\n\nBegin with: belfry demo"),
		kong.Writers(w.out, w.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Bind(w),
	)
	if err != nil {
		_, _ = fmt.Fprintln(w.err, "belfry:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help has been answered
	}
	if err != nil {
		_, _ = fmt.Fprintf(w.err, "belfry: %v\nbelfry --help lists commands and flags.\n", err)
		return exitUsage
	}
	quietCollector(w.environ)
	ctx, stop := interruptible(w.err)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run()
	var wrong usage
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.As(err, &wrong):
		_, _ = fmt.Fprintf(w.err, "belfry: %v\n", err)
		return exitUsage
	}
	_, _ = fmt.Fprintf(w.err, "belfry: %v\n", err)
	return exitFailed
}

// quietCollector halves the collector's work for the price of memory that is
// small beside what the operating system keeps anyway, unless GOGC says
// otherwise.
func quietCollector(environ []string) {
	if !slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, "GOGC=") }) {
		debug.SetGCPercent(200)
	}
}

// errSilent fails a command that has said why already.
var errSilent = errors.New("said already")

// interruptible is a context that the first SIGINT or SIGTERM ends; the second
// ends the process at once.
func interruptible(say io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		select {
		case <-signals:
			_, _ = fmt.Fprintln(say, "belfry: stopped at once")
			os.Exit(exitFailed)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// form is the flag that chooses the form of answers.
type form struct {
	JSON bool `name:"json" help:"Answer in JSON, one object a line."`
}

func (f form) out(w world) cli.Out { return cli.Out{Writer: w.out, JSON: f.JSON} }
