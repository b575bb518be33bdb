package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/bench"
	"github.com/belfryhq/belfry/internal/config"
)

type benchCmd struct {
	Quick      bool     `help:"Take less than 45 seconds."`
	Database   string   `placeholder:"URL" help:"PostgreSQL server to measure on, postgres://...; bench makes databases of its own there and drops them. SQLite when left out."`
	Nodes      int      `placeholder:"N" help:"Start so many servers on the PostgreSQL database and compare them to one."`
	Only       []string `placeholder:"NAME" help:"Measure only these scenarios of those above."`
	Plots      string   `placeholder:"DIR" help:"Write plots there, as SVG."`
	CPUProfile string   `name:"cpuprofile" placeholder:"FILE" help:"Write a profile of the load, for go tool pprof."`
	form
}

// Help is the long help.
func (benchCmd) Help() string {
	return "Load generator and receiver run on this machine and share its processors with the server: every figure includes them. " +
		"The ceiling is what net/http alone can post over loopback in the same run.\n\nScenarios:\n" + scenarios()
}

func scenarios() string {
	var b strings.Builder
	for _, s := range bench.Scenarios() {
		fmt.Fprintf(&b, "  %-9s %s\n", s.Name, s.About)
	}
	return b.String()
}

// Run measures.
func (b *benchCmd) Run(ctx context.Context, w world) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	size := bench.Full()
	if b.Quick {
		size = bench.Quick()
	}
	o := bench.Options{
		Size: size, Database: b.Database, Program: []string{self, "serve"}, Progress: w.err, Terminal: terminal(w.err), CPUProfile: b.CPUProfile,
		Only: b.Only, Plots: b.Plots, Nodes: b.Nodes,
		Start: func(ctx context.Context, c config.Config, with bench.Parts) (bench.Server, error) {
			return app.New(ctx, app.Options{Config: c, Log: logger(&c, io.Discard), Version: version(), Kinds: with.Kinds, Ahead: with.Ahead})
		},
	}
	if err = o.Check(); err != nil {
		return usage{err}
	}
	report, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	if b.JSON {
		return b.out(w).Value(report)
	}
	return report.Write(w.out)
}

// terminal reports whether somebody looks at what is written.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
